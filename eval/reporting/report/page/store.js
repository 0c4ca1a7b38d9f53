// Data of the page: scripts beside it that call Report.receive, loaded when they are first asked for.
"use strict";

const Report = {
  received: new Map(),
  waiting: new Map(),

  /** Called by a data script. */
  receive(name, data) {
    this.received.set(name, data);
  },

  /** The data of this name; a page on file:// may load scripts, and nothing else. */
  load(name) {
    if (this.received.has(name)) return Promise.resolve(this.received.get(name));
    if (!this.waiting.has(name)) {
      this.waiting.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onload = () => {
          script.remove();
          if (this.received.has(name)) resolve(this.received.get(name));
          else reject(new Error(`data/${name}.js holds something else`));
        };
        script.onerror = () => reject(new Error(`data/${name}.js is not there: the page was moved without its folders`));
        document.head.append(script);
      }));
    }
    return this.waiting.get(name);
  },

  /** Numbers of a metric: float32, in base 64. */
  decode(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  },
};
