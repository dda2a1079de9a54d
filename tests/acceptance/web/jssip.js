import { drive, iceServers, settings, speaker, token } from "./phone.js";

const { user, domain, server, instance, companion } = settings;

// What docs/media.md shows
const { default: JsSIP } = await import("jssip");
const { LastMile } = await import(`${companion}/static/last-mile.js`);

const media = { mediaConstraints: { audio: true }, pcConfig: { iceServers } };
const ua = new JsSIP.UA({
  uri: `sip:${user}@${domain}`,
  sockets: [new JsSIP.WebSocketInterface(server)],
  instance_id: instance,
});
const device = `${user}@${domain}/urn:uuid:${instance}`;
const lastMile = new LastMile({ url: companion, device, token });
lastMile.watchTransport(ua);

ua.on("newRTCSession", ({ session, request, originator }) => {
  let watched;
  const watch = (peerconnection) => {
    const [direction, peer] = originator === "local" ? ["out", request.to.uri.user] : ["in", request.from.uri.user];
    watched = lastMile.watch(peerconnection, { callId: request.call_id, direction, peer });
    peerconnection.addEventListener("track", ({ streams }) => (speaker.srcObject = streams[0]));
  };
  session.on("failed", ({ cause }) => watched?.end({ end: "failed", why: cause }));
  session.on("ended", ({ cause }) => watched?.end({ end: "hangup", why: cause }));
  if (originator === "local") return watch(session.connection);
  session.on("peerconnection", ({ peerconnection }) => watch(peerconnection));
  session.answer(media);
});

const call = (name) => ua.call(`sip:${name}@${domain}`, media);
ua.start();
// So far docs/media.md

const session = () => Object.values(ua._sessions)[0];
drive({
  lastMile,
  call,
  registered: () => ua.isRegistered(),
  talking: () => session()?.isEstablished(),
  callId: () => session()?._request.call_id,
  connection: () => session()?.connection,
  hangUp: () => session().terminate(),
});
