// Shows markup that is plain data: [tag, attributes, child, …] or text. Text becomes text nodes, whatever is in it;
// tags, attributes and addresses are only those named here.
import { h, ref } from "vue";
import { say, utc } from "companion/times.js";

const TAGS = new Set(
  `a abbr b bdi br button caption code dd details dialog div dl dt em fieldset figure footer form h1 h2 h3 header i
   input kbd label legend li nav ol option p path section select small span strong summary svg table tbody td th thead
   tr ul`.split(/\s+/),
);
const ATTRIBUTES =
  /^(aria-[a-z]+|data-[a-z]+|class|id|key|href|title|role|type|name|value|placeholder|for|checked|selected|disabled|min|max|step|required|open|scope|colspan|datetime|download|tabindex|autocomplete|spellcheck|enterkeyhint|inputmode|action|method|d|viewBox|focusable)$/;
const OWN_ADDRESS = /^(\/(?!\/)|\?|#)/;
const TYPING_PAUSE_MS = 200;

const now = ref(Date.now());
setInterval(() => (now.value = Date.now()), 1000);
let ahead = 0; // how far the server's clock is ahead of the browser's, in ms

const Time = ({ at, style }) => {
  const there = new Date(at);
  const text = say(there, style || "ago", now.value + ahead);
  return h("time", { datetime: at, title: utc(there) }, text);
};
Time.props = ["at", "style"];

export default {
  props: { markup: Array, address: String, clock: Number, follows: Boolean },
  emits: ["act", "go"],
  created() {
    if (this.clock) ahead = this.clock - Date.now();
  },
  mounted() {
    this.onBack = () => this.$emit("go", location.search);
    if (this.follows) window.addEventListener("popstate", this.onBack);
  },
  unmounted() {
    window.removeEventListener("popstate", this.onBack);
  },
  watch: {
    address(to) {
      if (to && to !== location.pathname + location.search) history.replaceState(null, "", to);
    },
  },
  methods: {
    show(node) {
      if (node === null || typeof node === "string") return node;
      const [name, said, ...children] = node;
      if (!TAGS.has(name)) return name === "time" ? h(Time, { at: said.datetime, style: said["data-style"] }) : null;
      return h(name, this.attributes(name, said), children.map(this.show));
    },
    attributes(name, said) {
      const { act, go, share, modal, ...plain } = said;
      const kept = Object.fromEntries(Object.entries(plain).filter(([key, value]) => allowed(key, value)));
      if (share !== undefined) kept.style = { "--share": share };
      if (name === "input" || name === "select") Object.assign(kept, this.field(name, act, kept));
      else if (name === "form") kept.onSubmit = (event) => this.submit(event, act);
      else if (act) kept.onClick = () => this.$emit("act", { name: act, value: said.value ?? "" });
      if (go) kept.onClick = (event) => this.go(event);
      if (modal) Object.assign(kept, this.dialog(act));
      return kept;
    },
    // What a person is typing is theirs: a later value from the server waits until they have left the field.
    field(name, act, kept) {
      const { value, ...rest } = kept;
      const fill = ({ el }) => {
        if (el !== document.activeElement && value !== undefined && el.type !== "checkbox") el.value = value;
      };
      let pause;
      const tell = (event) => {
        const field = event.target;
        clearTimeout(pause);
        const said = { name: act, value: field.type === "checkbox" ? field.checked : field.value };
        pause = setTimeout(() => this.$emit("act", said), name === "input" && field.type !== "checkbox" ? TYPING_PAUSE_MS : 0);
      };
      return { ...rest, onVnodeMounted: fill, onVnodeUpdated: fill, ...(act && { onInput: tell }) };
    },
    submit(event, act) {
      if (!act) return;
      event.preventDefault();
      this.$emit("act", { name: act, value: Object.fromEntries(new FormData(event.target)) });
    },
    go(event) {
      if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      const { hash } = event.currentTarget;
      history.pushState(null, "", event.currentTarget.getAttribute("href"));
      if (hash) document.getElementById(hash.slice(1))?.scrollIntoView();
      this.$emit("go", location.search);
    },
    dialog(act) {
      return {
        onClick: null,
        onVnodeMounted: ({ el }) => el.showModal(),
        onClose: () => this.$emit("act", { name: act, value: "" }),
      };
    },
  },
  render() {
    return h("div", { class: "part" }, this.markup.map(this.show));
  },
};

function allowed(key, value) {
  return ATTRIBUTES.test(key) && (!/^(href|action)$/.test(key) || OWN_ADDRESS.test(value));
}
