/* Searching runs in a worker, which browsers refuse to start for a page that is opened from a folder. There a hidden
   frame takes its place: same script, same messages. mkdocs-material wants a script of this name for it, and would
   fetch one from the network. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      frame.srcdoc = `<script src="${new URL(script, document.baseURI).href}"></script>`;
      this.started = new Promise((resolve) => frame.addEventListener("load", () => {
        // What the script sends it sends to its own window.
        frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        resolve(frame.contentWindow);
      }));
      document.body.append(frame);
    }
    postMessage(data) {
      this.started.then((inner) => inner.dispatchEvent(new inner.MessageEvent("message", { data })));
    }
  };
}

/* A word that begins with - is one that no page may have, to who searches. Options of the command line begin with --:
   there the word itself is meant. */
const { postMessage } = Worker.prototype;
Worker.prototype.postMessage = function (message, ...others) {
  const asks = typeof message?.data === "string";
  const meant = asks ? { ...message, data: message.data.replace(/(^|\s)--+(?=\S)/g, "$1") } : message;
  return postMessage.call(this, meant, ...others);
};
