// What both phones have in common, and by what a test drives them.

/** From the address of the page: user, domain, server, instance, companion. */
export const settings = Object.fromEntries(new URLSearchParams(location.search));
export const speaker = document.querySelector("audio");
/** All on one machine: nobody needs to be asked what our address is. */
export const iceServers = [];

/** The page's own server asks the companion for a token, as an operator's backend would. */
export async function token(callId, device) {
  const answer = await fetch(`/media-token?${new URLSearchParams({ callId, device })}`);
  return answer.text();
}

// Media goes by way of the test, too, if it wants: each address of the far end is replaced by one that leads there.
if (settings.relayed) {
  const { setRemoteDescription } = RTCPeerConnection.prototype;
  RTCPeerConnection.prototype.setRemoteDescription = async function ({ type, sdp }) {
    const lines = await Promise.all(sdp.split("\r\n").map(detour));
    return setRemoteDescription.call(this, { type, sdp: lines.filter((line) => line !== undefined).join("\r\n") });
  };
}

async function detour(line) {
  const [, before, host, port, after] = /^(a=candidate:\S+ \d+ udp \d+ )(\S+) (\d+)( typ host.*)$/i.exec(line) ?? [];
  if (!host) return line.startsWith("a=candidate:") ? undefined : line;
  const answer = await fetch(`/way?${new URLSearchParams({ host, port })}`);
  return `${before}${host} ${await answer.text()}${after}`;
}

/** Let a test make calls and look at them: `window.phone`. */
export function drive(phone) {
  const received = async () => {
    const stats = await phone.connection()?.getStats();
    return [...(stats?.values() ?? [])].find(({ type }) => type === "inbound-rtp")?.packetsReceived ?? 0;
  };
  window.phone = { ...phone, received };
}
