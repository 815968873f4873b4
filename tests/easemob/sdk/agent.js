// Runs in a page beside the vendor's SDK (`window.websdk`): makes connections, calls their methods, and reports
// every callback with its values through `window.report(json)`. It knows nothing of what should happen.
"use strict";

window.agent = (() => {
  const CALLBACKS = [
    "onConnected", "onDisconnected", "onReconnecting", "onError", "onOnline", "onOffline",
    "onTokenWillExpire", "onTokenExpired",
    "onMessage", "onTextMessage", "onCombineMessage", "onCmdMessage", "onCustomMessage", "onImageMessage",
    "onFileMessage", "onAudioMessage", "onVideoMessage", "onLocationMessage",
    "onReceivedMessage", "onDeliveredMessage", "onReadMessage", "onChannelMessage", "onStatisticMessage",
    "onRecallMessage", "onModifiedMessage", "onGroupEvent", "onMultiDeviceEvent",
    "onOfflineMessageSyncStart", "onOfflineMessageSyncFinish",
  ];
  // Up to 4.17 the library stands under `default`, as a module's.
  const sdk = window.websdk.default || window.websdk;
  const connections = new Map();
  const messages = new Map();

  // Values as JSON can hold them; an error is an object too, whose fields JSON would leave out.
  function plain(value) {
    const seen = new WeakSet();
    const text = JSON.stringify(value === undefined ? null : value, (_, inner) => {
      if (typeof inner === "bigint") return String(inner);
      if (typeof inner === "function") return undefined;
      if (inner !== null && typeof inner === "object") {
        if (seen.has(inner)) return undefined;
        seen.add(inner);
        if (Object.prototype.toString.call(inner) === "[object Error]") {
          return { name: inner.name, message: inner.message, type: inner.type, data: inner.data, stack: inner.stack };
        }
      }
      return inner;
    });
    return JSON.parse(text);
  }

  function report(connection, callback, args) {
    window.report(JSON.stringify({ connection, callback, args: plain(args) }));
  }

  return {
    plain,

    connection(name, options) {
      const connection = new sdk.connection(options);
      const handlers = {};
      for (const callback of CALLBACKS) {
        handlers[callback] = (...args) => report(name, callback, args);
      }
      connection.addEventHandler("agent", handlers);
      connections.set(name, connection);
      return connection.version;
    },

    async call(name, method, args) {
      return plain(await connections.get(name)[method](...args));
    },

    // The same message object may be sent again: so does an application that retries.
    create(handle, options) {
      messages.set(handle, sdk.message.create(options));
      return plain(messages.get(handle));
    },

    async send(name, handle) {
      return plain(await connections.get(name).send(messages.get(handle)));
    },

    // Many at once, as an application does that has much to say: none waits for the answer of another.
    async sendAll(name, all) {
      return plain(await Promise.all(all.map((options) => connections.get(name).send(sdk.message.create(options)))));
    },

    field(name, field) {
      return plain(connections.get(name)[field]);
    },
  };
})();
