// A small messenger on the vendor's SDK, twice on one page. All that it knows about receipts it has from the SDK's
// callbacks; the three options that point the SDK at a node of one's own are in `options`.

const sdk = window.websdk.default || window.websdk;
const setup = await (await fetch("setup.json")).json();
// Towards the reader; a status never goes back.
const RANK = { failed: 0, sending: 1, acked: 2, delivered: 3, read: 4 };

// The node is where the page is, by whatever name that was found.
const here = (url) => url.replace(/\/\/(\[[^\]]*\]|[^/:]*)/, `//${location.hostname}`);

function options(user) {
  return {
    appKey: setup.appKey,
    url: here(setup.url),
    apiUrl: here(setup.apiUrl),
    isHttpDNS: false,
    delivery: true,
    // Two users in one page are two devices, so they may not share the name that the browser keeps.
    isFixedDeviceId: false,
    deviceId: `demo_${user}`,
  };
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

// What one user has seen in this tab; it survives a reload.
class Memory {
  constructor(user) {
    this.key = `receipts-demo-${setup.id}-${user}`;
    const kept = JSON.parse(sessionStorage.getItem(this.key) || "null") || { chats: {} };
    this.chats = kept.chats;
    // Of what was on its way when the page went, nothing more is heard.
    for (const { messages } of Object.values(this.chats)) {
      for (const message of messages) if (message.status === "sending") message.status = "failed";
    }
  }

  chat(id, name, isGroup) {
    this.chats[id] ||= { id, name, isGroup, messages: [], unread: 0 };
    return this.chats[id];
  }

  message(mid) {
    for (const chat of Object.values(this.chats)) {
      const found = chat.messages.find((message) => message.id === mid);
      if (found) return found;
    }
    return undefined;
  }

  keep() {
    sessionStorage.setItem(this.key, JSON.stringify({ chats: this.chats }));
  }
}

class Pane {
  constructor({ user, password }, peer) {
    this.user = user;
    this.password = password;
    this.peer = peer;
    this.memory = new Memory(user);
    this.openId = null;
    // What was handed to the SDK, by local id: sent again as the same object, it cannot become a second message.
    this.sending = new Map();
    this.root = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    this.root.dataset.user = user;
    this.root.style.setProperty("--hue", user === setup.people[0].user ? "#7a4fd0" : "#c2571a");
    this.part = (selector) => this.root.querySelector(selector);
    this.part(".user").textContent = user;
    this.part(".face").textContent = user[0].toUpperCase();
    this.part(".link").addEventListener("click", () => (this.online ? this.goOffline() : this.goOnline()));
    this.part(".back").addEventListener("click", () => this.close());
    this.part(".notice button").addEventListener("click", () => this.notice(""));
    this.part(".writer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.write();
    });
    document.getElementById("panes").append(this.root);
    this.memory.chat(peer, peer, false);
    this.connect();
  }

  connect() {
    this.connection = new sdk.connection(options(this.user));
    this.connection.addEventHandler("pane", {
      onConnected: () => this.connected(),
      onDisconnected: (reason) => this.state(false, reason?.type === 206 ? "logged in elsewhere" : "offline"),
      onReconnecting: () => this.state(false, "reconnecting …"),
      onTextMessage: (message) => this.arrived(message),
      onReceivedMessage: ({ id, mid }) => this.acked(id, mid),
      onDeliveredMessage: ({ mid }) => this.raise(mid, "delivered"),
      onReadMessage: (receipt) => this.read(receipt),
      onChannelMessage: (receipt) => this.conversationRead(receipt),
      onStatisticMessage: (statistic) => this.summary(statistic),
    });
  }

  async goOnline() {
    this.state(false, "connecting …");
    try {
      await this.connection.open({ user: this.user, pwd: this.password });
    } catch (error) {
      this.state(false, error.message || "refused");
    }
  }

  goOffline() {
    this.connection.close();
    this.state(false, "offline");
    // A connection that was closed by its user is done; the next one is another session of the same device.
    this.connect();
  }

  async connected() {
    this.state(true, "online");
    this.notice("");
    try {
      await this.team();
      await this.counts();
    } catch (error) {
      this.notice(error.message || String(error));
    }
    this.enter();
  }

  state(online, text) {
    this.online = online;
    this.part(".state").textContent = text;
    this.part(".state").dataset.online = online;
    this.part(".link").textContent = online ? "Go offline" : "Go online";
    this.draw();
  }

  notice(text) {
    this.part(".notice span").textContent = text;
    this.part(".notice").hidden = !text;
  }

  // The group everybody is in: the first user makes it, the others find it.
  async team() {
    const joined = await this.connection.getJoinedGroups({ pageNum: 0, pageSize: 20 });
    for (const group of joined.data) this.group(group.groupid || group.id, group.groupname || group.name);
    if (joined.data.length === 0 && this.user === setup.people[0].user) {
      const members = [...setup.people, setup.listener].map(({ user }) => user).filter((user) => user !== this.user);
      const made = await this.connection.createGroup({
        data: { groupname: setup.group, desc: "", members, public: true, approval: false, allowinvites: false,
                inviteNeedConfirm: false, maxusers: 200 },
      });
      this.group(made.data.groupid, setup.group);
    }
  }

  group(id, name) {
    this.memory.chat(String(id), name || setup.group, true);
    this.draw();
  }

  // The server's counts: they are the same on all devices of a user.
  async counts() {
    const found = await this.connection.getServerConversations({ pageSize: 50, cursor: "" });
    for (const { conversationId, conversationType, unReadCount } of found.data.conversations) {
      const chat = this.memory.chat(conversationId, conversationId, conversationType === "groupChat");
      chat.unread = unReadCount;
    }
    this.draw();
  }

  // -- writing

  async write() {
    const text = this.part(".text").value.trim();
    const chat = this.memory.chats[this.openId];
    if (!text || !chat) return;
    const asks = chat.isGroup && this.part(".asks input").checked;
    this.part(".text").value = "";
    const message = sdk.message.create({
      type: "txt", chatType: chat.isGroup ? "groupChat" : "singleChat", to: chat.id, msg: text,
      ...(asks ? { msgConfig: { allowGroupAck: true } } : {}),
    });
    const shown = { local: message.id, id: null, from: this.user, text, at: Date.now(), status: "sending", asks, readers: 0 };
    chat.messages.push(shown);
    this.sending.set(message.id, message);
    await this.handOver(shown);
  }

  async handOver(shown) {
    shown.status = "sending";
    this.draw();
    try {
      await this.connection.send(this.sending.get(shown.local));
      this.sending.delete(shown.local);
    } catch (error) {
      if (shown.id === null) shown.status = "failed";
      this.notice(`Not sent: ${this.online ? error.message : "you are offline"}`);
      this.draw();
    }
  }

  acked(local, mid) {
    for (const chat of Object.values(this.memory.chats)) {
      const found = chat.messages.find((message) => message.local === local && message.id === null);
      if (found) {
        found.id = mid;
        this.raise(mid, "acked");
      }
    }
  }

  raise(mid, status) {
    const found = this.memory.message(mid);
    if (found && RANK[found.status] < RANK[status]) found.status = status;
    this.draw();
  }

  // -- reading

  arrived(message) {
    const own = message.from === this.user;
    const isGroup = message.chatType === "groupChat";
    const chat = this.memory.chat(isGroup || own ? message.to : message.from, isGroup ? setup.group : message.from, isGroup);
    const asks = message.msgConfig?.allowGroupAck === true;
    chat.messages.push({ local: null, id: message.id, from: message.from, text: message.msg, at: message.time,
                         status: "acked", asks, readers: 0, answered: false });
    if (chat.id === this.openId) {
      this.messageReceipt(chat, chat.messages.at(-1));
    } else if (!own) {
      chat.unread += 1;
    }
    this.draw();
  }

  async send(receipt) {
    try {
      await this.connection.send(sdk.message.create(receipt));
      return true;
    } catch (error) {
      if (this.online) this.notice(`Receipt not sent: ${error.message}`);
      return false;
    }
  }

  // Entering a conversation with unread messages takes one receipt; what comes while it is open, one each.
  open(id) {
    this.openId = id;
    this.enter();
    this.draw();
    this.part(".text").focus();
  }

  // Also after a login: what was opened offline is receipted then.
  enter() {
    const chat = this.memory.chats[this.openId];
    if (!chat || !this.online) return;
    if (chat.unread > 0) {
      this.send({ type: "channel", chatType: chat.isGroup ? "groupChat" : "singleChat", to: chat.id });
      chat.unread = 0;
    }
    // A conversation receipt never answers a question: that takes a receipt of its own.
    for (const message of chat.messages) this.answer(chat, message);
    this.draw();
  }

  close() {
    this.openId = null;
    this.draw();
  }

  messageReceipt(chat, message) {
    if (message.from === this.user) return;
    if (!chat.isGroup) {
      this.send({ type: "read", chatType: "singleChat", to: chat.id, id: message.id });
    } else if (message.asks) {
      this.answer(chat, message);
    } else {
      this.send({ type: "channel", chatType: "groupChat", to: chat.id });
    }
  }

  async answer(chat, message) {
    if (!chat.isGroup || !message.asks || message.from === this.user || message.answered) return;
    message.answered = true;
    message.answered = await this.send({ type: "read", chatType: "groupChat", to: chat.id, id: message.id, ackContent: "seen" });
    this.draw();
  }

  read({ mid, from, groupReadCount, ackContent }) {
    if (groupReadCount === undefined) {
      this.raise(mid, "read");
      return;
    }
    const found = this.memory.message(mid);
    if (!found) return;
    found.readers = Math.max(found.readers, groupReadCount[mid]);
    found.words = { ...found.words, [from]: ackContent || "" };
    this.draw();
  }

  conversationRead({ from, to }) {
    if (from === this.user) {
      this.memory.chat(to, to, false).unread = 0;
    } else {
      for (const message of this.memory.chat(from, from, false).messages) {
        if (message.from === this.user && RANK[message.status] >= RANK.acked) message.status = "read";
      }
    }
    this.draw();
  }

  // What was read while this user was away.
  summary({ location }) {
    const counts = location ? JSON.parse(location).group_ack : undefined;
    if (!counts) return;
    const said = [];
    for (const { mid, count } of counts) {
      const found = this.memory.message(mid);
      if (found) found.readers = Math.max(found.readers, count);
      said.push(`${found ? `“${found.text}”` : "what you asked"} was read by ${count}`);
    }
    this.notice(`While you were away: ${said.join("; ")}.`);
    this.draw();
  }

  async readers(chat, message) {
    let found;
    try {
      found = await this.connection.getGroupMsgReadUser({ msgId: message.id, groupId: chat.id });
    } catch (error) {
      this.notice(`The readers are not known: ${error.message}`);
      return;
    }
    const dialog = document.getElementById("readers");
    dialog.querySelector("blockquote").textContent = message.text;
    const people = found.data.userlist.map((user) =>
      element("li", {}, element("span", { textContent: user }), element("span", { textContent: message.words?.[user] || "" })));
    dialog.querySelector("ul").replaceChildren(...(people.length ? people : [element("li", { textContent: "Nobody yet." })]));
    dialog.showModal();
  }

  // -- drawing

  draw() {
    this.memory.keep();
    const chats = Object.values(this.memory.chats).sort((a, b) => a.isGroup - b.isGroup);
    this.part(".chats").replaceChildren(...chats.map((chat) => this.entry(chat)));
    const chat = this.memory.chats[this.openId];
    this.part(".open").hidden = !chat;
    this.part(".nothing").hidden = Boolean(chat);
    if (!chat) return;
    this.part(".title h3").textContent = chat.isGroup ? `${chat.name} (group)` : chat.name;
    this.part(".asks").hidden = !chat.isGroup || this.user !== setup.people[0].user;
    this.lines(chat);
  }

  // Lines that still say the same stay as they are, so that a tick neither moves the focus nor is read out again.
  lines(chat) {
    const list = this.part(".messages");
    const before = list.children.length;
    chat.messages.forEach((message, index) => {
      const is = JSON.stringify([chat.id, message]);
      const shown = list.children[index];
      if (shown?.dataset.is === is) return;
      const line = this.line(chat, message);
      line.dataset.is = is;
      if (shown) shown.replaceWith(line);
      else list.append(line);
    });
    while (list.children.length > chat.messages.length) list.lastElementChild.remove();
    if (list.children.length !== before) list.scrollTop = list.scrollHeight;
  }

  entry(chat) {
    const made = element("button", { type: "button" }, element("span", { className: "name", textContent: chat.name }));
    made.dataset.chat = chat.name;
    made.setAttribute("aria-current", chat.id === this.openId);
    if (chat.unread > 0) {
      made.append(element("span", { className: "badge", textContent: chat.unread, ariaLabel: `${chat.unread} unread` }));
    }
    const last = chat.messages.at(-1)?.text;
    if (last) made.append(element("span", { className: "last", textContent: last }));
    made.addEventListener("click", () => this.open(chat.id));
    return made;
  }

  line(chat, message) {
    const mine = message.from === this.user;
    const made = element("li");
    made.dataset.mine = mine;
    if (chat.isGroup && !mine) made.append(element("span", { className: "author", textContent: message.from }));
    made.append(element("span", { className: "said", textContent: message.text }));
    const meta = element("span", { className: "meta" });
    if (mine && message.asks && message.id) {
      const label = `read by ${message.readers}`;
      const asked = element("button", { type: "button", className: "asked", textContent: label });
      asked.addEventListener("click", () => this.readers(chat, message));
      meta.append(asked);
    }
    if (message.status === "failed" && this.sending.has(message.local)) {
      const again = element("button", { type: "button", className: "again", textContent: "try again" });
      again.addEventListener("click", () => this.handOver(message));
      meta.append(again);
    }
    if (!mine && message.asks) {
      meta.append(element("span", { className: "answer", textContent: message.answered ? "you answered: seen" : "asks who reads it" }));
    }
    meta.append(element("time", { textContent: clock(message.at) }));
    if (mine) {
      const tick = element("span", { className: "tick", title: message.status, ariaLabel: message.status });
      tick.dataset.status = message.status;
      meta.append(tick);
    }
    made.append(meta);
    return made;
  }
}

// The third one has no pane: it only reads what is asked in the group, so that there is more than one reader.
async function listen({ user, password }) {
  const connection = new sdk.connection(options(user));
  connection.addEventHandler("listener", {
    onTextMessage: ({ id, to, msgConfig }) => {
      if (msgConfig?.allowGroupAck !== true) return;
      const receipt = { type: "read", chatType: "groupChat", to, id, ackContent: "on my way" };
      connection.send(sdk.message.create(receipt)).catch(() => {});
    },
  });
  await connection.open({ user, pwd: password });
}

document.getElementById("version").textContent = setup.sdkVersion;
const [first, second] = setup.people;
const panes = [new Pane(first, second.user), new Pane(second, first.user)];
// One after the other: the first user makes the group that the others find.
for (const pane of panes) await pane.goOnline();
await listen(setup.listener);
