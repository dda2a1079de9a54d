import { drive, iceServers, settings, speaker, token } from "./phone.js";

const { user, domain, server, instance, companion } = settings;

// What docs/media.md shows
const { Inviter, Registerer, SessionState, UserAgent } = await import("sip.js");
const { LastMile } = await import(`${companion}/static/last-mile.js`);

const address = (name) => UserAgent.makeURI(`sip:${name}@${domain}`);
const userAgent = new UserAgent({
  uri: address(user),
  transportOptions: { server },
  sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 500, peerConnectionConfiguration: { iceServers } },
  delegate: { onInvite: (invitation) => ring(invitation) },
  logLevel: "warn",
});
const registerer = new Registerer(userAgent, { instanceId: instance, regId: 1 });
const device = `${user}@${domain}/urn:uuid:${instance}`;
const lastMile = new LastMile({ url: companion, device, token });
lastMile.watchTransport(userAgent);

function watch(session, direction, peer) {
  let watched;
  session.sessionDescriptionHandlerOptionsReInvite = { offerOptions: { iceRestart: true } };
  session.delegate = {
    onSessionDescriptionHandler: ({ peerConnection }) => {
      watched = lastMile.watch(peerConnection, { callId: session.request.callId, direction, peer });
    },
  };
  session.stateChange.addListener((state) => {
    if (state === SessionState.Established) speaker.srcObject = session.sessionDescriptionHandler.remoteMediaStream;
  });
  return ({ message }) => watched?.end({ end: "failed", why: `${message.statusCode} ${message.reasonPhrase}` });
}

function call(name) {
  const inviter = new Inviter(userAgent, address(name));
  const onReject = watch(inviter, "out", name);
  return inviter.invite({ requestDelegate: { onReject } });
}

function ring(invitation) {
  watch(invitation, "in", invitation.remoteIdentity.uri.user);
  return invitation.accept();
}

await userAgent.start();
await registerer.register();
// So far docs/media.md

const session = () => Object.values(userAgent._sessions)[0];
drive({
  lastMile,
  call,
  registered: () => registerer.state === "Registered",
  talking: () => session()?.state === SessionState.Established,
  callId: () => session()?.request.callId,
  connection: () => session()?.sessionDescriptionHandler?.peerConnection,
  hangUp: () => session().bye(),
});
