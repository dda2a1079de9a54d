/**
 * The media's last mile, seen from the browser: once a second what getStats knows of a call, every five seconds a
 * report to the companion; and a phone that notices early that its network is gone, and comes back by itself.
 *
 *     const lastMile = new LastMile({ url: "https://companion.example.com", token: (callId) => fetchToken(callId) });
 *     lastMile.watch(peerConnection, { callId, direction: "out", peer: "bob" });
 *     lastMile.watchTransport(userAgent);
 *
 * It needs nothing else, never throws into the application and never makes it wait. docs/media.md tells all of it.
 */

const SAMPLE_MS = 1000;
const REPORT_TICKS = 5;
const GAP_MS = 2500;
const STALE_MS = 10_000;
const HOUR_MS = 3_600_000;
const EFFECT_SAMPLES = 10;
const ANSWER_MS = 15_000;
const CALLS = 20;
const ITEMS = 3600;
const AT_ONCE = 400; // the server takes no more happenings
const MOST_BYTES = 60_000; // a browser takes 64 KiB, for all beacons together
const MOST_MS = 30_000;
const ICE_MS = 2000;
const FAR_END_MS = 8000;
const TRIES = 8;
const INBOUND = "inbound-rtp";
const OUTBOUND = "outbound-rtp";

const { max, min, random, round } = Math;
const text = JSON.stringify;

/** Epoch ms that never go back, whatever is done to the computer's clock. */
const clock = () => performance.timeOrigin + performance.now();
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
/** A text as a report may have it: short, and nothing in it that can not be seen. */
const clip = (said = "") => `${said}`.slice(0, 256).replace(/\p{C}|\p{Zl}|\p{Zp}/gu, "");
/** Longer each time, and not the same for all phones. */
const pause = (tries) => min(MOST_MS, 1000 * 2 ** tries) * random();
const good = (state) => /^co/.test(state); // connected, completed
const bad = (state) => /^(dis|fa)/.test(state); // disconnected, failed

let warned;
const warn = (problem) => {
  warned ??= console.warn("last-mile:", problem) ?? true; // once
};
/** The application notices neither what goes wrong nor how long it takes. */
const quietly =
  (act) =>
  (...values) =>
    (async () => act(...values))().catch(warn);
const on = (target, name, act) => target.addEventListener(name, quietly(act));

/** All of a type; of streams, those of a kind. */
const of = (stats, type, kind) => [...stats.values()].filter((stat) => stat.type === type && stat.kind === kind);
const audioOf = (stats, type) => of(stats, type, "audio");

/** The pair in use. After an ICE restart the old one stays nominated, and not every browser tells of a transport. */
const selectedPair = (stats) => {
  const pairs = of(stats, "candidate-pair");
  const used = (pair) => pair.lastPacketReceivedTimestamp ?? 0;
  const nominated = pairs.filter((pair) => pair.nominated && pair.state === "succeeded");
  return (
    of(stats, "transport")
      .map((transport) => stats.get(transport.selectedCandidatePairId))
      .find(Boolean) ??
    pairs.find((pair) => pair.selected) ??
    nominated.sort((one, other) => used(one) - used(other)).at(-1)
  );
};

/**
 * What happened between two getStats, as a report's sample has it. What is not known is left out, never 0: a counter
 * that went back, or whose stream was not there before, tells nothing this time.
 * @param {any} before an RTCStatsReport, or a Map of the same
 * @param {any} after
 * @returns {{rtt_ms?: number, in: any, out: any, video?: any}}
 */
export function compare(before, after) {
  const heard = audioOf(after, INBOUND);
  const said = audioOf(after, OUTBOUND);
  const seen = of(after, INBOUND, "video");
  const shown = of(after, OUTBOUND, "video");
  const { currentRoundTripTime, lastPacketReceivedTimestamp, timestamp } = selectedPair(after) ?? {};
  const fresh = (at) => !(timestamp - at > STALE_MS);
  const told = audioOf(after, "remote-inbound-rtp").filter((stat) => fresh(stat.timestamp));
  const grown = (streams, counter) => sum(streams.map((stat) => stat[counter] - earlier(before, stat)?.[counter]));
  const ratio = (streams, part, whole) => grown(streams, part) / grown(streams, whole);
  const share = (counter) => ratio(heard, counter, "totalSamplesReceived");
  const level = (streams) => min(1, ratio(streams, "totalAudioEnergy", "totalSamplesDuration") ** 0.5);
  const packets = grown(heard, "packetsReceived");
  return tidy({
    rtt_ms: (fresh(lastPacketReceivedTimestamp) && 1000 * currentRoundTripTime) || NaN,
    in: {
      packets,
      bytes: grown(heard, "bytesReceived"),
      lost: grown(heard, "packetsLost"),
      jitter_ms: packets ? 1000 * most(heard, "jitter") : NaN,
      buffer_ms: 1000 * ratio(heard, "jitterBufferDelay", "jitterBufferEmittedCount"),
      concealed: min(1, share("concealedSamples") - share("silentConcealedSamples")),
      level: level(heard),
    },
    out: {
      packets: grown(said, "packetsSent"),
      bytes: grown(said, "bytesSent"),
      target_bps: sum(said.map((stat) => stat.targetBitrate)),
      lost: most(told, "fractionLost"),
      rtt_ms: 1000 * most(told, "roundTripTime") || NaN,
      jitter_ms: 1000 * most(told, "jitter"),
      level: level(audioOf(after, "media-source")),
    },
    video: (seen[0] || shown[0]) && {
      in_bytes: grown(seen, "bytesReceived"),
      out_bytes: grown(shown, "bytesSent"),
      in_fps: most(seen, "framesPerSecond"),
      out_fps: most(shown, "framesPerSecond"),
      in_height: most(seen, "frameHeight"),
      out_height: most(shown, "frameHeight"),
    },
  });
}

/** The same stream a moment ago, unless it began anew since. */
const earlier = (stats, stat) => {
  const was = stats.get(stat.id);
  const back = ["packetsReceived", "packetsSent", "totalSamplesDuration"].some((name) => stat[name] < was?.[name]);
  return back || was?.ssrc !== stat.ssrc ? undefined : was;
};

/** Of what is known; NaN when nothing is. */
const sum = (figures) => {
  const known = figures.filter(isFinite);
  return known.reduce((total, figure) => total + figure, known.length ? 0 : NaN);
};
const most = (streams, name) => max(...streams.map((stat) => stat[name]).filter(isFinite));

/** Without what is not known, and no more digits than it is worth. Only `lost` can be negative: packets came late. */
const tidy = (figures) =>
  JSON.parse(
    text(figures, (name, value) => {
      if (typeof value !== "number") return value || undefined;
      const known = isFinite(value) && (value >= 0 || name === "lost");
      return known ? +value.toFixed(/[mp]s$/.test(name) ? 1 : 4) : undefined;
    }),
  );

/**
 * Enough of an address to know the network by: its first 24 bits, or 48 of IPv6; nothing of a name (mDNS).
 * @param {string} [address]
 */
export function shorten(address = "") {
  const [network] = /^(([\da-f]+:){1,3}|:|[\d.]+\.)/i.exec(address) ?? [""];
  return network && network + (network.endsWith(":") ? ":" : "0");
}

/** How the media goes. */
const pathOf = (stats, say) => {
  const pair = selectedPair(stats);
  const near = stats.get(pair?.localCandidateId) ?? {};
  const far = stats.get(pair?.remoteCandidateId) ?? {};
  return {
    local: near.candidateType,
    remote: far.candidateType,
    protocol: near.protocol,
    relay: near.relayProtocol,
    network: near.networkType,
    local_address: say(near.address),
    remote_address: say(far.address),
  };
};

/** The RTP map of the first audio stream of this type, such as opus/48000/2. */
const codecOf = (stats, type) => {
  const stream = audioOf(stats, type).find((stat) => stat.codecId);
  const { mimeType = "", clockRate, channels } = stats.get(stream?.codecId) ?? {};
  return [mimeType.slice(6), clockRate, channels].filter(Boolean).join("/");
};

/** What is to be told of a call and not acknowledged yet, on its way to the companion. */
const outbox = (address, about, getToken, heed) => {
  let items = [];
  let next = 0;
  let dropped = 0;
  let failures = 0;
  let quietUntil = 0;
  let token, sending;

  const add = (item) => {
    items.push({ n: next++, at: round(clock()), ...item });
    if (items.length > ITEMS) dropped += forget(items[1].n);
  };

  /** Keep what comes from this number on; how many went. */
  const forget = (first) => {
    const all = items.length;
    items = items.filter((item) => !(item.n < first));
    return all - items.length;
  };

  /** The oldest items, as many as fit. */
  const report = (room) => {
    let size = 3000;
    const said = items.filter((item, count) => count < AT_ONCE && (size += text(item).length) < room);
    const samples = said.filter((item) => item.ms);
    const happenings = said.filter((item) => item.what);
    const body = { v: 1, now: round(clock()), call: about, dropped, samples, happenings };
    return { body, left: items.length - said.length };
  };

  /** Send a report; whether the next one may follow at once. */
  const send = async () => {
    const { body, left } = report(MOST_BYTES);
    const first = next - left;
    token ??= await getToken();
    if (!token) throw "no token";
    const response = await fetch(address, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}` },
      body: text(body),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const { status, ok } = response;
    const answer = await response.json();
    if (ok) {
      failures = quietUntil = 0;
      heed(answer.advice);
      return forget(min(answer.next, first)) && left;
    }
    if (status === 401 && /expired$/.test(answer.type)) token = null;
    else if (status < 500 && ![408, 429].includes(status)) {
      dropped += forget(first);
      warn(answer.title);
    }
    later(response.headers.get("Retry-After"));
  };

  const later = (seconds) => (quietUntil = clock() + max(1000 * seconds || 0, pause(failures++)));

  const flush = async (atOnce) => {
    if (sending || !items[0] || (!atOnce && clock() < quietUntil)) return;
    sending = true;
    try {
      while (await send());
    } catch {
      later();
    }
    sending = false;
  };

  /** Tell what fits in a beacon, as the page goes, and the call with it; how many bytes. */
  const depart = (room) => {
    const { body, left } = report(room);
    if (!token || (about.end && !items[0])) return 0;
    body.call = { ended_at: round(clock()), end: "closed", ...about };
    const said = text({ ...body, token, dropped: dropped + left });
    navigator.sendBeacon(address, said);
    return said.length;
  };

  quietly(async () => (token ??= await getToken()))(); // a page that goes has no time to ask for one
  return { add, flush, depart };
};

/** A call: looks at its connection, and tells its outbox. */
const watched = (pc, id, about, options, links, limit) => {
  const { token, device } = options;
  const is = {};
  const said = {};
  let recent = [];
  let effects = [];
  let before, since, talked, connected, ice, fragment, timer, advised;

  const heed = (advice) => {
    const maxBitrate = advice?.max_bitrate;
    if (options.advice && maxBitrate && maxBitrate !== advised) limit(pc, { maxBitrate, kind: "audio" }, "advice");
    advised = maxBitrate;
  };
  const box = outbox(
    `${clip(options.url).replace(/\/+$/, "")}/api/v1/calls/${encodeURIComponent(id)}/samples`,
    about,
    () => (token.call ? token(id, device) : token),
    heed,
  );
  const tell = (what, fields = {}) => void box.add({ what, fields: tidy(fields) });

  /** Tell it unless it was told so before. */
  const tellNew = (what, fields) => {
    const now = text(tidy(fields));
    if (now === "{}" || now === said[what]) return;
    said[what] = now;
    tell(what, fields);
  };
  const turn = (to, back, now) => {
    if (!now !== !is[to]) tell(now ? to : back);
    is[to] = now;
  };
  const closed = () => call.ended || pc.signalingState === "closed";

  /** What no event tells, or one for the whole page. */
  const look = () => {
    if (closed()) return;
    const audio = pc.getTransceivers().filter(({ receiver }) => receiver.track.kind === "audio");
    const both = audio.some(({ currentDirection }) => currentDirection === "sendrecv");
    const speaks = audio.some(({ sender: { track } }) => track?.enabled && !track.muted && track.readyState === "live");
    talked ||= both;
    turn("muted", "unmuted", audio[0] && !speaks);
    turn("held", "resumed", talked && !both);
    turn("hidden", "visible", document.hidden);
    turn("offline", "online", !navigator.onLine);
    const { type, effectiveType: effective } = navigator.connection ?? {};
    tellNew("network", { type, effective });
  };

  const noticeRestart = () => {
    const now = /ufrag:(\S+)/.exec(pc.currentLocalDescription?.sdp)?.[1] ?? fragment;
    if (fragment && now !== fragment) is.restart = !tell("restart");
    fragment = now;
  };

  const iceChanged = () => {
    ice = pc.iceConnectionState;
    connected ||= good(ice);
    tell("ice", { state: ice });
    clearTimeout(timer);
    if (bad(ice)) timer = setTimeout(() => call.broken() && links.forEach((link) => link.iceLost(call)), ICE_MS);
  };

  const sample = quietly(async () => {
    if (closed()) return end();
    const at = clock();
    const stats = new Map(await pc.getStats()); // which is read many times, and much faster
    if (!closed()) take(stats, at);
  });

  const take = (stats, at) => {
    const last = before;
    const ms = min(HOUR_MS, round(at - since) || 1);
    before = stats;
    since = at;
    look();
    tellNew("path", pathOf(stats, options.fullAddresses ? clip : shorten));
    tellNew("codec", { in: codecOf(stats, INBOUND), out: codecOf(stats, OUTBOUND) });
    if (!last || !connected) return;
    const figures = compare(last, stats);
    is.gap = ms > GAP_MS;
    const item = { at: round(at), ms, ...figures, flags: Object.keys(is).filter((flag) => is[flag]) };
    is.restart = false;
    if (figures.in.packets) call.heard = at;
    box.add(item);
    recent = [...recent, item].slice(-EFFECT_SAMPLES);
    effects = effects.filter((effect) => effect.now.push(item) <= EFFECT_SAMPLES || tellEffect(effect));
  };

  const limited = (what, by) => {
    tell("limit", { ...what, by });
    effects.push({ what, was: recent, now: [] });
  };

  /** What a limit changed: ten seconds before it against ten seconds after; the one it came in is neither. */
  const tellEffect = ({ what, was, now }) => {
    const bps = (samples) => {
      const bytes = samples.flatMap(({ out, video }) => [out.bytes, video?.out_bytes]);
      return (8000 * sum(bytes)) / sum(samples.map((each) => each.ms));
    };
    const loss = (samples) => samples.at(-1)?.out.lost;
    tell("limited", {
      ...what,
      before_bps: bps(was),
      after_bps: bps(now.slice(1)),
      before_loss: loss(was),
      after_loss: loss(now),
    });
  };

  const end = (how) => {
    if (call.ended) return;
    const guess = !connected ? "failed" : bad(ice) ? "lost" : "hangup";
    Object.assign(about, { ended_at: round(clock()), end: how?.end ?? guess, why: clip(how?.why) });
    call.ended = true;
    tell("connection", { state: "closed" });
    return box.flush();
  };

  const call = {
    ...box,
    pc,
    about,
    id,
    is,
    look,
    sample,
    end,
    tell,
    limited,
    packets: async () => sum(audioOf(await pc.getStats(), INBOUND).map((stat) => stat.packetsReceived)),
    broken: () => !call.ended && bad(pc.iceConnectionState),
  };

  on(pc, "iceconnectionstatechange", iceChanged);
  on(pc, "connectionstatechange", () => tell("connection", { state: pc.connectionState }));
  on(pc, "signalingstatechange", noticeRestart);
  connected = good(pc.iceConnectionState);
  noticeRestart();
  look();
  return call;
};

/**
 * @typedef {object} Options
 * @property {string} url where the companion answers
 * @property {string | ((callId: string, device?: string) => string | Promise<string>)} token of a call, or who gets
 *   one: asked once a call, and again when it has run out
 * @property {string} [device] handed to `token`
 * @property {boolean} [advice] whether to take the server's advice on bitrates
 * @property {boolean} [fullAddresses] tell whole IP addresses, and not just /24 and /48
 */

/** Watches calls and their signalling, and tells a companion. */
export class LastMile {
  /** @param {Options} options */
  constructor(options) {
    const calls = new Map();
    const links = new Set();
    const live = () => [...calls.values()].filter((call) => !call.ended);
    let ticks = 0;

    const timer = setInterval(() => {
      links.forEach((link) => link.tick());
      live().forEach((call) => call.sample());
      if (++ticks % REPORT_TICKS === 0) flush();
    }, SAMPLE_MS);
    const flush = (atOnce) => calls.forEach((call) => call.flush(atOnce));
    const limited = (which, what, by) =>
      live()
        .filter(which)
        .forEach((call) => call.limited(what, by));

    const changed = (event) => {
      live().forEach((call) => call.look());
      flush(event.type === "online");
    };

    on(window, "offline", changed);
    on(window, "online", changed);
    on(document, "visibilitychange", changed);
    on(window, "pagehide", () => {
      let room = MOST_BYTES;
      calls.forEach((call) => (room -= call.depart(room)));
    });

    /**
     * Watch a call from now on, until its connection is closed.
     * @param {RTCPeerConnection} pc
     * @param {{callId: string, direction?: "in"|"out"|"", peer?: string}} about
     * @returns {{end: (how?: {end?: "hangup"|"failed"|"lost"|"closed", why?: string}) => void}}
     */
    this.watch = (pc, { callId, direction, peer } = {}) => {
      const about = { direction, peer: clip(peer), started_at: round(clock()) };
      quietly(() => {
        if (calls.size >= CALLS) calls.delete([...calls.values()].find((call) => call.ended)?.id);
        if (!calls.has(callId)) calls.set(callId, watched(pc, callId, about, options, links, this.limit));
      })();
      return { end: (how) => void calls.get(callId)?.end(how) };
    };

    /**
     * Notice early that signalling is gone, come back, and measure it.
     * @param {any} target a UserAgent of SIP.js, a UA of JsSIP, or a WebSocket
     * @param {Hooks} [hooks]
     * @returns {{stop: () => void}}
     */
    this.watchTransport = (target, hooks = {}) => {
      let made;
      quietly(() => links.add((made = link(live, target.userAgent ?? target, hooks))))();
      return { stop: () => made?.stop(links.delete(made)) };
    };

    /**
     * Let no sender of this connection use more (bit/s); no `maxBitrate`: no limit.
     * @param {RTCPeerConnection} pc
     * @param {{maxBitrate?: number, kind?: "audio"|"video"}} limit
     * @returns {Promise<boolean | undefined>} whether it was taken
     */
    this.limit = quietly(async (pc, { maxBitrate, kind = "" }, by = "page") => {
      const senders = pc.getSenders().filter(({ track }) => track?.kind.includes(kind));
      const limit = (sender) => {
        const parameters = sender.getParameters();
        parameters.encodings[0].maxBitrate = maxBitrate;
        return sender.setParameters(parameters);
      };
      await Promise.all(senders.map(limit));
      limited((call) => call.pc === pc, { max_bps: maxBitrate }, by);
      return !!senders[0];
    });

    /**
     * Make a video track smaller.
     * @param {MediaStreamTrack} track
     * @param {{height: number}} constraints
     * @returns {Promise<boolean | undefined>} whether it was taken
     */
    this.constrain = quietly(async (track, { height }) => {
      await track.applyConstraints({ ...track.getConstraints(), height });
      limited((call) => call.pc.getSenders().some((sender) => sender.track === track), { height }, "page");
      return true;
    });

    /** Watch nothing any more; what is known is sent once more. */
    this.stop = () => {
      clearInterval(timer);
      links.forEach((link) => link.stop());
      live().forEach((call) => call.end({ end: "closed" }));
    };
  }
}

/**
 * @typedef {object} Hooks what is to be done in place of the library's own
 * @property {() => WebSocket | Promise<WebSocket>} [reconnect] a new socket: needed where the target is a WebSocket
 * @property {() => unknown} [reregister] resolved when the registrar has answered
 * @property {(pc: RTCPeerConnection, callId: string) => unknown} [reinvite] with ICE restart; resolved when answered
 * @property {() => unknown} [ping] ask the server for any answer
 * @property {number} [keepAlive] seconds of silence until the server is asked
 * @property {number} [patience] seconds that its answer may take
 */

const LATE = 0;
const PONG = /^\r\n$|^SIP[^]*\d OPTIONS\r/;

/** A phone's connection to its server. */
const link = (calls, agent, hooks) => {
  const kind = agent.transport?.stateChange ? sipJs : agent.sendOptions ? jsSip : bare;
  const phone = { keepAlive: 10, patience: 3, up: () => agent.isConnected(), ...kind(agent, hooks), ...hooks };
  let heard = 0;
  let asked = 0;
  let tries = 0;
  let socket, registered, network, answers, busy, stopped, offlineAt, wake;

  const ping = quietly(() => phone.ping());
  const drop = () => (async () => phone.drop())().catch(String);

  const hear = (answer) => {
    heard = clock();
    answers ||= answer;
  };

  const listen = () => {
    const current = phone.socket();
    if (!current || current === socket) return;
    socket = current;
    hear();
    answers || ping(); // to know early whether silence will mean anything
    on(current, "message", (event) => hear(PONG.test(event.data)));
    on(
      current,
      "close",
      ({ code }) => phone.down || current !== socket || [1000, 1005].includes(code) || fail("socket"),
    );
  };

  const tick = quietly(() => {
    if (busy || !phone.up()) return;
    registered = phone.registered?.() ?? true;
    listen();
    const type = navigator.connection?.type;
    if (type !== network) check("network");
    network = type;
    if (clock() - max(heard, asked) > 1000 * phone.keepAlive) check("stalled");
  });

  /** Whether the server is there, as far as one knows: who never answered a ping may not know what one is. */
  const check = quietly(async (reason) => {
    if (busy || stopped || !phone.up()) return;
    asked = clock();
    ping();
    while (heard < asked && clock() < asked + 1000 * phone.patience) await sleep(50);
    await sleep(50); // a page that was busy reads the answer now
    if (heard >= asked || !answers) return true;
    fail(reason, heard);
  });

  const wanted = () => !stopped && phone.wanted();
  const rest = (ms) =>
    new Promise((done) => {
      wake = done;
      setTimeout(done, ms);
    });
  const timely = (promise) => Promise.race([promise, rest(10_000).then(() => Promise.reject(LATE))]);

  /** Signalling is gone: connect, register, and take the calls along. */
  const fail = quietly(async (reason, since) => {
    if (busy || !wanted()) return;
    busy = true;
    const noticed = offlineAt ?? clock();
    const marks = offlineAt ? { reason: "offline" } : { reason, noticed_ms: noticed - since };
    drop();
    for (tries = 0; wanted() && !(await comeBack(marks, noticed));) await rest(pause(tries++));
    busy = offlineAt = undefined;
    calls().forEach((call) => resume(call, { ...marks }, noticed));
  });

  const comeBack = async (marks, noticed) => {
    try {
      if (!phone.up()) {
        await timely(phone.connect());
        if (!phone.up()) return;
        marks.socket_ms = clock() - noticed;
      }
      listen();
      if (registered && phone.reregister && (await timely(phone.reregister(registered))) !== false)
        marks.registered_ms = clock() - noticed;
      return true;
    } catch (problem) {
      if (problem === LATE) drop();
    }
  };

  /** ICE is down: with the server out of reach, too, all begins anew; else the far end may be who is gone. */
  const iceLost = quietly(async (call) => {
    const noticed = clock();
    if (!(await check("ice"))) return;
    // who lost its network comes by itself, in the four seconds it needs to notice; both at once get nowhere (491)
    await sleep(phone.patient || call.about.direction === "in" ? FAR_END_MS : FAR_END_MS / 2);
    if (call.broken() && !busy) resume(call, { reason: "ice", noticed_ms: noticed - call.heard }, noticed);
  });

  /** Re-INVITE with ICE restart, wait for the first packet, and tell how long it took. */
  const resume = quietly(async (call, marks, noticed) => {
    if (call.resuming) return;
    call.resuming = true;
    const goes = () => !call.ended && !busy;
    for (let left = TRIES; phone.reinvite && goes() && left--;) {
      try {
        if ((await timely(phone.reinvite(call.pc, call.id))) !== false) marks.reinvite_ms = clock() - noticed;
        break;
      } catch {
        await sleep(4000 * random()); // both sides may have tried (491)
      }
    }
    const before = await call.packets();
    for (const until = clock() + ANSWER_MS; goes() && !marks.media_ms && clock() < until; await sleep(50))
      if ((await call.packets()) > before) marks.media_ms = clock() - noticed;
    marks.result = marks.media_ms || call.is.held ? "resumed" : "failed";
    call.tell("switch-over", marks);
    call.resuming = false;
  });

  on(window, "offline", () => {
    offlineAt ??= clock();
    check("offline");
  });
  on(window, "online", () => {
    tries = 0;
    busy ? wake() : fail("offline");
  });
  phone.down?.(() => setTimeout(fail, 0, "socket"));
  tick();
  return { tick, iceLost, stop: () => (stopped = true) };
};

/** SIP.js: a UserAgent, or what has one as `userAgent`. A deliberate disconnect() keeps its own reconnecting quiet. */
const sipJs = (ua) => ({
  socket: () => ua.transport.ws,
  wanted: () => ua.state === "Started",
  down: (fail) => {
    let was = ua.transport.state;
    ua.transport.stateChange.addListener((state) => {
      if (was === "Connected" && state === "Disconnected") fail();
      was = state;
    });
  },
  drop: () => ua.transport.disconnect(),
  connect: () => ua.reconnect(),
  registered: () => Object.values(ua._registerers).filter(({ state }) => state === "Registered"),
  reregister: async (registerers) => {
    const left = registerers.filter(({ state }) => state !== "Terminated");
    await Promise.all(left.map((each) => answered((requestDelegate) => each.register({ requestDelegate }))));
    return !!left[0];
  },
  reinvite: (pc) => {
    const session = sessionOf(ua, (each) => each.sessionDescriptionHandler?.peerConnection === pc);
    if (!session) return false;
    takeBack(session, pc);
    const kept = session.sessionDescriptionHandlerOptionsReInvite;
    const again = { ...kept, offerOptions: { ...kept.offerOptions, iceRestart: true } };
    const invite = (requestDelegate) =>
      session
        .invite({ requestDelegate, sessionDescriptionHandlerOptions: again })
        .finally(() => (session.sessionDescriptionHandlerOptionsReInvite = kept)); // or each later one restarts ICE
    return answered(invite);
  },
  ping: () => {
    const { userAgentCore: core, configuration } = ua;
    const to = configuration.uri.clone();
    to.user = undefined;
    core.request(core.makeOutgoingRequestMessage("OPTIONS", to, configuration.uri, to, {}), {});
  },
});

const sessionOf = (ua, is) => Object.values(ua._sessions).find(is);
const answered = (send) => new Promise((onAccept, onReject) => send({ onAccept, onReject }).catch(onReject));

/**
 * SIP.js leaves an offer that was refused where it is, and then can negotiate nothing any more. It is taken back as
 * late as possible, when the next one is made or comes: Chromium ends the media of who was called as soon as it is.
 */
const takeBack = (session, pc) => {
  const handler = session.sessionDescriptionHandler;
  const mend = (name) => {
    const act = handler[name];
    handler[name] = async (...values) => {
      const own = name === "setDescription" && session.pendingReinvite;
      if (pc.signalingState === "have-local-offer" && !own) await pc.setLocalDescription({ type: "rollback" });
      return act.apply(handler, values);
    };
  };
  if (!handler.takesBack) ["getDescription", "setDescription"].forEach(mend);
  handler.takesBack = true;
};

/** JsSIP: a UA. It ends a call whose re-INVITE is not answered, so the far end is given time to come by itself. */
const jsSip = (ua) => ({
  patient: true,
  socket: () => ua.transport.socket?._ws,
  wanted: () => ua.status !== 2, // STATUS_USER_CLOSED
  down: (fail) => ua.on("disconnected", fail),
  drop: () => ua.transport.disconnect(),
  connect: async () => {
    ua.transport.connect();
    while (ua.transport.isConnecting()) await sleep(20);
  },
  registered: () => ua.isRegistered(),
  reregister: async () => {
    ua.register();
    while (ua.registrator()._registering) await sleep(20);
    return ua.isRegistered() || Promise.reject();
  },
  reinvite: (pc) => {
    const session = sessionOf(ua, (each) => each.connection === pc);
    const rtcOfferConstraints = { iceRestart: true };
    const again = (succeeded, failed) =>
      session.isReadyToReOffer() // and not renegotiate(), which ends a call whose offer is refused
        ? session._sendReinvite({ rtcOfferConstraints, eventHandlers: { succeeded, failed } })
        : failed();
    return !!session && new Promise(again);
  },
  ping: () => ua.sendOptions(ua.configuration.registrar_server),
});

/** A WebSocket and hooks. One that is closed in order was meant to be. */
const bare = (socket, { reconnect }) => ({
  ping: () => socket.send("\r\n\r\n"),
  socket: () => socket,
  up: () => socket.readyState === 1,
  wanted: () => reconnect,
  drop: () => socket.close(),
  connect: async () => {
    socket = await reconnect();
    while (!socket.readyState) await sleep(20);
  },
});
