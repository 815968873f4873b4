"""What a report looks like, light and dark: HTML around it and a style sheet. What it says is in `report`."""

from __future__ import annotations

__all__ = ["PAGE", "STYLE"]

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>{body}</body>
</html>
"""

STYLE = """
:root {
  --back: #ffffff; --text: #1d2126; --soft: #68707a; --line: #d5dae0; --panel: #f4f6f8; --node: #3b424a;
  --red: #c3142d; --red-back: #fdeaec; --amber: #a85b00; --green: #1a7f37;
  --u0: #1463c2; --u1: #b3450c; --u2: #17795a; --u3: #8a35b8; --u4: #a3195b; --u5: #6a6200; --u6: #0d7285;
  --u7: #5b4bc4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14171b; --text: #e2e6ea; --soft: #949da8; --line: #343b44; --panel: #1d2127; --node: #c2cad3;
    --red: #ff6b7a; --red-back: #3a1a20; --amber: #f0a541; --green: #4cc46b;
    --u0: #6cacff; --u1: #ff9d66; --u2: #55cfa3; --u3: #cf94f5; --u4: #ff85b8; --u5: #d5c94b; --u6: #59c8dd;
    --u7: #a59bff;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 60px; }
body {
  margin: 0; padding: 24px; min-width: max-content; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif;
}
section { max-width: min(110ch, calc(100vw - 64px)); }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 12px; }
h2 { font-size: 18px; margin: 28px 0 8px; }
p, ul { margin: 8px 0; }
a { color: inherit; }
pre, code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
pre { background: var(--panel); border-radius: 6px; padding: 10px 12px; overflow-x: auto; margin: 8px 0; }
.verdict {
  border-left: 4px solid var(--red); background: var(--red-back); padding: 6px 14px;
  border-radius: 0 6px 6px 0;
}
.verdict b { color: var(--red); margin-right: 4px; }
.verdict pre { background: transparent; padding: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.fine { color: var(--green); }
.left-out { color: var(--soft); font-style: italic; }
.key { font-weight: bold; } .key.down { color: var(--red); } .key.fault { color: var(--amber); }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: 3px 14px 3px 0; }
.steps { font-size: 13px; width: 100%; }
.steps th:nth-child(-n+2) { text-align: right; }
.steps th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
.steps td { border-bottom: 1px solid var(--line); }
.steps td:nth-child(-n+2) {
  font-variant-numeric: tabular-nums; color: var(--soft); text-align: right; white-space: nowrap;
}
.steps code { font-size: 12.5px; overflow-wrap: anywhere; }
.steps .violated td { background: var(--red-back); }
.steps .healing code { color: var(--soft); }
.steps tr:target td, .steps tr:hover td { background: var(--panel); }
.wrong { color: var(--red); }
svg { display: block; }
svg text { font: 11px system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; fill: var(--text); }
svg a { text-decoration: none; }
.heads {
  position: sticky; top: 0; z-index: 1; background: var(--back); border-bottom: 1px solid var(--line);
}
.heads text { text-anchor: middle; }
svg .place { font-size: 14px; font-weight: 700; }
svg .device { font-size: 12px; fill: var(--soft); }
svg .number { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .clock { fill: var(--soft); font-size: 9.5px; text-anchor: end; font-variant-numeric: tabular-nums; }
svg .quiet { fill: var(--soft); font-size: 9px; }
svg .label, svg .frame {
  paint-order: stroke; stroke: var(--back); stroke-width: 4px; stroke-linejoin: round;
}
svg .label.act { font-weight: 600; }
svg .label.down { fill: var(--red); font-weight: 600; }
svg .label.fault { fill: var(--amber); }
svg .label.up, svg .label.mend { fill: var(--green); }
svg .label.inner, svg .label.said { fill: var(--soft); }
svg .label.said { font-style: italic; }
svg .verdict {
  fill: var(--red); font-weight: 600; font-size: 12px;
  paint-order: stroke; stroke: var(--red-back); stroke-width: 5px; stroke-linejoin: round;
}
.violated { fill: var(--red-back); stroke: var(--red); stroke-width: 1.5; }
.life { stroke-width: 2; fill: none; opacity: .75; }
.life.down { stroke-dasharray: 1 6; stroke-width: 1.5; }
.arrow { stroke-width: 1.3; fill: none; opacity: .8; }
.arrow.gone { stroke-dasharray: 5 3; }
.arrow.flying { stroke-dasharray: 2 4; }
.lost { stroke: var(--red); stroke-width: 2; fill: none; }
.sign { stroke: var(--back); stroke-width: 1; fill: var(--node); }
.sign.down { stroke: var(--red); stroke-width: 3; fill: none; }
.sign.up, .sign.mend { fill: var(--green); }
.sign.fault { fill: var(--amber); }
.sign.inner { stroke: var(--node); stroke-width: 2.5; }
.dot { fill: var(--soft); }
path.rule { stroke: var(--green); stroke-dasharray: 6 4; fill: none; }
text.rule { fill: var(--green) !important; font-weight: 600; }
g:target .number { fill: var(--red); font-weight: 700; }
"""
