/**
 * Measure the media's last mile in the browser: read getStats of a call once a second, and send a report to the
 * companion every five seconds. Detect early that the network is gone, and recover by itself.
 *
 *     const lastMile = new LastMile({ url: "https://companion.example.com", token: (callId) => fetchToken(callId) });
 *     lastMile.watch(peerConnection, { callId, direction: "out", peer: "bob" });
 *     lastMile.watchTransport(userAgent);
 *
 * It needs nothing else, never throws an error into the application and never blocks it. See docs/media.md.
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

/** Return epoch ms that never go back, even when the computer's clock does. */
const clock = () => performance.timeOrigin + performance.now();
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));
/** Return a text that a report may hold: short, and printable. */
const clip = (value = "") => `${value}`.slice(0, 256).replace(/\p{C}|\p{Zl}|\p{Zp}/gu, "");
/** Return a pause that grows with each try and differs between phones. */
const pause = (tries) => min(MOST_MS, 1000 * 2 ** tries) * random();
const good = (state) => /^co/.test(state); // connected, completed
const bad = (state) => /^(dis|fa)/.test(state); // disconnected, failed

let warned;
const warn = (problem) => {
  warned ??= console.warn("last-mile:", problem) ?? true; // once
};
/** Run a function without errors for the application, and without making it wait. */
const quietly =
  (act) =>
  (...values) =>
    (async () => act(...values))().catch(warn);
const on = (target, name, act) => target.addEventListener(name, quietly(act));

/** Return all statistics of a type; of streams, those of a kind. */
const of = (stats, type, kind) => [...stats.values()].filter((stat) => stat.type === type && stat.kind === kind);
const audioOf = (stats, type) => of(stats, type, "audio");

/** Return the pair in use. After an ICE restart the old one stays nominated; not every browser reports a transport. */
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
 * Return the members of a sample: the difference of two getStats. A figure that is not known is left out, never 0. A
 * counter that went back, or whose stream is new, is not known this time.
 * @param {any} before an RTCStatsReport, or a Map of the same
 * @param {any} after
 * @returns {{rtt_ms?: number, in: any, out: any, video?: any}}
 */
export function compare(before, after) {
  const received = audioOf(after, INBOUND);
  const sent = audioOf(after, OUTBOUND);
  const pictures = of(after, INBOUND, "video");
  const ownPictures = of(after, OUTBOUND, "video");
  const { currentRoundTripTime, lastPacketReceivedTimestamp, timestamp } = selectedPair(after) ?? {};
  const fresh = (at) => !(timestamp - at > STALE_MS);
  const remote = audioOf(after, "remote-inbound-rtp").filter((stat) => fresh(stat.timestamp));
  const grown = (streams, counter) => sum(streams.map((stat) => stat[counter] - earlier(before, stat)?.[counter]));
  const ratio = (streams, part, whole) => grown(streams, part) / grown(streams, whole);
  const share = (counter) => ratio(received, counter, "totalSamplesReceived");
  const level = (streams) => min(1, ratio(streams, "totalAudioEnergy", "totalSamplesDuration") ** 0.5);
  const packets = grown(received, "packetsReceived");
  return tidy({
    rtt_ms: (fresh(lastPacketReceivedTimestamp) && 1000 * currentRoundTripTime) || NaN,
    in: {
      packets,
      bytes: grown(received, "bytesReceived"),
      lost: grown(received, "packetsLost"),
      jitter_ms: packets ? 1000 * most(received, "jitter") : NaN,
      buffer_ms: 1000 * ratio(received, "jitterBufferDelay", "jitterBufferEmittedCount"),
      concealed: min(1, share("concealedSamples") - share("silentConcealedSamples")),
      level: level(received),
    },
    out: {
      packets: grown(sent, "packetsSent"),
      bytes: grown(sent, "bytesSent"),
      target_bps: sum(sent.map((stat) => stat.targetBitrate)),
      lost: most(remote, "fractionLost"),
      rtt_ms: 1000 * most(remote, "roundTripTime") || NaN,
      jitter_ms: 1000 * most(remote, "jitter"),
      level: level(audioOf(after, "media-source")),
    },
    video: (pictures[0] || ownPictures[0]) && {
      in_bytes: grown(pictures, "bytesReceived"),
      out_bytes: grown(ownPictures, "bytesSent"),
      in_fps: most(pictures, "framesPerSecond"),
      out_fps: most(ownPictures, "framesPerSecond"),
      in_height: most(pictures, "frameHeight"),
      out_height: most(ownPictures, "frameHeight"),
    },
  });
}

/** Return the earlier statistics of a stream, unless it started anew since. */
const earlier = (stats, stat) => {
  const was = stats.get(stat.id);
  const back = ["packetsReceived", "packetsSent", "totalSamplesDuration"].some((name) => stat[name] < was?.[name]);
  return back || was?.ssrc !== stat.ssrc ? undefined : was;
};

/** Add up the figures that are known; NaN without any. */
const sum = (figures) => {
  const numbers = figures.filter(isFinite);
  return numbers.reduce((total, figure) => total + figure, numbers.length ? 0 : NaN);
};
const most = (streams, name) => max(...streams.map((stat) => stat[name]).filter(isFinite));

/** Leave out figures that are not known, and round the others. Only `lost` can be negative: packets came late. */
const tidy = (figures) =>
  JSON.parse(
    text(figures, (name, value) => {
      if (typeof value !== "number") return value || undefined;
      const valid = isFinite(value) && (value >= 0 || name === "lost");
      return valid ? +value.toFixed(/[mp]s$/.test(name) ? 1 : 4) : undefined;
    }),
  );

/**
 * Shorten an address to its network: the first 24 bits, or 48 of IPv6; nothing of a name (mDNS).
 * @param {string} [address]
 */
export function shorten(address = "") {
  const [network] = /^(([\da-f]+:){1,3}|:|[\d.]+\.)/i.exec(address) ?? [""];
  return network && network + (network.endsWith(":") ? ":" : "0");
}

/** Describe the media's path. */
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

/** Keep the items of a call until the companion has acknowledged them. */
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

  /** Drop the items before this number; return how many. */
  const forget = (first) => {
    const all = items.length;
    items = items.filter((item) => !(item.n < first));
    return all - items.length;
  };

  /** Build a report of the oldest items, as many as fit. */
  const report = (room) => {
    let size = 3000;
    const batch = items.filter((item, count) => count < AT_ONCE && (size += text(item).length) < room);
    const samples = batch.filter((item) => item.ms);
    const happenings = batch.filter((item) => item.what);
    const body = { v: 1, now: round(clock()), call: about, dropped, samples, happenings };
    return { body, left: items.length - batch.length };
  };

  /** Send a report; return whether the next one may follow at once. */
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

  /** Send what fits in a beacon when the page is left; return its number of bytes. */
  const depart = (room) => {
    const { body, left } = report(room);
    if (!token || (about.end && !items[0])) return 0;
    body.call = { ended_at: round(clock()), end: "closed", ...about };
    const payload = text({ ...body, token, dropped: dropped + left });
    navigator.sendBeacon(address, payload);
    return payload.length;
  };

  quietly(async () => (token ??= await getToken()))(); // a page that goes has no time to ask for one
  return { add, flush, depart };
};

/** Watch a call's connection, and put items in its outbox. */
const watched = (pc, id, about, options, links, limit) => {
  const { token, device } = options;
  const is = {};
  const latest = {};
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

  /** Add a happening unless its fields are the same as last time. */
  const tellNew = (what, fields) => {
    const now = text(tidy(fields));
    if (now === "{}" || now === latest[what]) return;
    latest[what] = now;
    tell(what, fields);
  };
  const turn = (to, back, now) => {
    if (!now !== !is[to]) tell(now ? to : back);
    is[to] = now;
  };
  const closed = () => call.ended || pc.signalingState === "closed";

  /** Check what has no event, or one for the whole page. */
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

  /** Compare ten seconds before a limit with ten seconds after; the second between them is left out. */
  const tellEffect = ({ what, was, now }) => {
    const bps = (samples) => {
      const bytes = samples.flatMap(({ out, video }) => [out.bytes, video?.out_bytes]);
      return (8000 * sum(bytes)) / sum(samples.map((sample) => sample.ms));
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
 * @property {string | ((callId: string, device?: string) => string | Promise<string>)} token of a call, or a function
 *   that returns one: called once for each call, and again when the token has expired
 * @property {string} [device] handed to `token`
 * @property {boolean} [advice] whether to follow the server's advice on bitrates
 * @property {boolean} [fullAddresses] send whole IP addresses, and not only /24 and /48
 */

/** Watch calls and their signalling, and report them to a companion. */
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
     * Detect early that signalling is gone, recover, and measure it.
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
     * Limit what each sender of this connection uses (bit/s); without `maxBitrate` there is no limit.
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
     * Reduce the height of a video track.
     * @param {MediaStreamTrack} track
     * @param {{height: number}} constraints
     * @returns {Promise<boolean | undefined>} whether it was taken
     */
    this.constrain = quietly(async (track, { height }) => {
      await track.applyConstraints({ ...track.getConstraints(), height });
      limited((call) => call.pc.getSenders().some((sender) => sender.track === track), { height }, "page");
      return true;
    });

    /** Stop watching, and send what is left once more. */
    this.stop = () => {
      clearInterval(timer);
      links.forEach((link) => link.stop());
      live().forEach((call) => call.end({ end: "closed" }));
    };
  }
}

/**
 * @typedef {object} Hooks functions that replace the library's own
 * @property {() => WebSocket | Promise<WebSocket>} [reconnect] a new socket: needed where the target is a WebSocket
 * @property {() => unknown} [reregister] resolved when the registrar has answered
 * @property {(pc: RTCPeerConnection, callId: string) => unknown} [reinvite] with ICE restart; resolved when answered
 * @property {() => unknown} [ping] make the server answer anything
 * @property {number} [keepAlive] seconds of silence until the server is pinged
 * @property {number} [patience] seconds to wait for its answer
 */

const LATE = 0;
const PONG = /^\r\n$|^SIP[^]*\d OPTIONS\r/;

/** Watch a phone's connection to its server. */
const link = (calls, agent, hooks) => {
  const kind = agent.transport?.stateChange ? sipJs : agent.sendOptions ? jsSip : bare;
  const phone = { keepAlive: 10, patience: 3, up: () => agent.isConnected(), ...kind(agent, hooks), ...hooks };
  let heardAt = 0;
  let askedAt = 0;
  let tries = 0;
  let socket, registered, network, answers, busy, stopped, offlineAt, wake;

  const ping = quietly(() => phone.ping());
  const drop = () => (async () => phone.drop())().catch(String);

  const hear = (answer) => {
    heardAt = clock();
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
    if (clock() - max(heardAt, askedAt) > 1000 * phone.keepAlive) check("stalled");
  });

  /** Return whether the server is there. One that never answered a ping may not support pings: it counts as there. */
  const check = quietly(async (reason) => {
    if (busy || stopped || !phone.up()) return;
    askedAt = clock();
    ping();
    while (heardAt < askedAt && clock() < askedAt + 1000 * phone.patience) await sleep(50);
    await sleep(50); // a page that was busy reads the answer now
    if (heardAt >= askedAt || !answers) return true;
    fail(reason, heardAt);
  });

  const wanted = () => !stopped && phone.wanted();
  const rest = (ms) =>
    new Promise((done) => {
      wake = done;
      setTimeout(done, ms);
    });
  const timely = (promise) => Promise.race([promise, rest(10_000).then(() => Promise.reject(LATE))]);

  /** Signalling is gone: connect, register, and resume the calls. */
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

  /** ICE is down: recover when the server is out of reach, too; else the far end may be gone. */
  const iceLost = quietly(async (call) => {
    const noticed = clock();
    if (!(await check("ice"))) return;
    // who lost its network comes by itself, in the four seconds it needs to notice; both at once get nowhere (491)
    await sleep(phone.patient || call.about.direction === "in" ? FAR_END_MS : FAR_END_MS / 2);
    if (call.broken() && !busy) resume(call, { reason: "ice", noticed_ms: noticed - call.heard }, noticed);
  });

  /** Send a re-INVITE with ICE restart, wait for the first packet, and report how long it took. */
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

/** Adapt SIP.js: a UserAgent, or an object with one as `userAgent`. disconnect() stops its own reconnecting. */
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
    await Promise.all(left.map((one) => answered((requestDelegate) => one.register({ requestDelegate }))));
    return !!left[0];
  },
  reinvite: (pc) => {
    const session = sessionOf(ua, (one) => one.sessionDescriptionHandler?.peerConnection === pc);
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
 * SIP.js keeps an offer that was refused, and then cannot negotiate any more. Take it back as late as possible, when
 * the next one is made or comes: Chromium ends the media of the called side at that moment.
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

/** Adapt JsSIP: a UA. It ends a call whose re-INVITE is not answered, so the far end gets time to come by itself. */
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
    const session = sessionOf(ua, (one) => one.connection === pc);
    const rtcOfferConstraints = { iceRestart: true };
    const again = (succeeded, failed) =>
      session.isReadyToReOffer() // and not renegotiate(), which ends a call whose offer is refused
        ? session._sendReinvite({ rtcOfferConstraints, eventHandlers: { succeeded, failed } })
        : failed();
    return !!session && new Promise(again);
  },
  ping: () => ua.sendOptions(ua.configuration.registrar_server),
});

/** Adapt a WebSocket and hooks. A socket that is closed in order is left closed. */
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
