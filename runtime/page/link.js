// The WebSocket to the runtime: connects, and connects again with growing pauses when the runtime has gone away.

const FIRST_PAUSE = 500; // ms
const LONGEST_PAUSE = 5000;

export class Link {
  /** `onMessage(message)` gets each decoded message, `onState(state, seconds)` "open" or "lost" and the pause. */
  constructor(url, onMessage, onState) {
    this.url = url;
    this.onMessage = onMessage;
    this.onState = onState;
    this.pause = FIRST_PAUSE;
    this.connect();
  }

  connect() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onmessage = ({ data }) => this.onMessage(JSON.parse(data));
    socket.onopen = () => {
      this.pause = FIRST_PAUSE;
      this.onState("open", 0);
    };
    socket.onclose = () => {
      this.onState("lost", this.pause / 1000);
      setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    };
  }

  /** Sends a message; false when there is no connection. */
  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}
