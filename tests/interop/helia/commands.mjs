// What the peer can be asked to do: name -> async (request, { signal }) -> answer, both plain JSON objects.
import { createCipheriv, createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream, readFileSync } from 'node:fs'
import { unixfs } from '@helia/unixfs'
import { CarReader } from '@ipld/car'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { CID } from 'multiformats/cid'
import { CODECS, HASHES, cars, fs, helia, libp2p, names, options } from './node.mjs'
import { chunks, pump } from './streams.mjs'

const b64 = (b) => Buffer.from(b).toString('base64')
const unb64 = (s) => new Uint8Array(Buffer.from(s, 'base64'))
const bytesOf = (r) =>
  r.path
    ? new Uint8Array(readFileSync(r.path))
    : r.b64 != null
      ? unb64(r.b64)
      : r.text != null
        ? new TextEncoder().encode(r.text)
        : gen(r.size, r.genSeed ?? 'x')
// Deterministic bytes: an AES-128-CTR key stream.
const gen = (size, seed) => {
  const c = createCipheriv('aes-128-ctr', createHash('md5').update(String(seed)).digest(), Buffer.alloc(16))
  return new Uint8Array(c.update(Buffer.alloc(size)))
}
const cidFor = async (r, data) =>
  r.cid
    ? CID.parse(r.cid)
    : CID.create(
        r.cidVersion ?? 1,
        CODECS[r.codec ?? 'raw'] ?? r.codec,
        await HASHES[r.hash ?? 'sha2-256'].digest(data)
      )
const target = (s) => (s.startsWith('/') ? multiaddr(s) : peerIdFromString(s))
const conn = (c) => ({
  peer: c.remotePeer.toString(),
  addr: c.remoteAddr.toString(),
  direction: c.direction,
  rtt: c.rtt, // milliseconds, of the connection monitor's last ping
  encryption: c.encryption,
  muxer: c.multiplexer,
  limits: c.limits && { bytes: c.limits.bytes?.toString(), seconds: c.limits.seconds },
  streams: c.streams.map((s) => s.protocol)
})
const blk = async (store, cid, opts) => {
  const p = []
  for await (const b of store.get(cid, opts)) p.push(b)
  return Buffer.concat(p)
}
const collect = async (it, fn) => {
  const a = []
  for await (const e of it) a.push(fn ? fn(e) : e)
  return a
}
const dhtOf = (r) => libp2p.services[r.dht ?? (options.kad === 'lan' ? 'lan' : 'dht')]
const keyOf = (r) => (r.keyB64 != null ? unb64(r.keyB64) : new TextEncoder().encode(r.key))
// helia.blockstore.delete() throws NoContentRoutersError when there is no DHT.
const rm = (cid) => helia.blockstore.unwrap().delete(cid)
const timed = async (fn) => {
  const t = performance.now()
  const r = await fn()
  return { ...r, ms: performance.now() - t }
}
// Blocks from anybody, or with { session: true, providers: [multiaddr] } from a session with those.
const source = async (r, root) => {
  const providers = (r.providers ?? []).map((p) => multiaddr(p))
  return r.session
    ? helia.blockstore.createSession(root, { providers, maxProviders: r.maxProviders ?? Math.max(1, providers.length) })
    : helia.blockstore
}

export const commands = {
  id: () => ({
    peerId: libp2p.peerId.toString(),
    addrs: libp2p.getMultiaddrs().map(String),
    protocols: libp2p.getProtocols(),
    agent: libp2p.services.identify.host?.agentVersion,
    node: process.version
  }),
  dial: async (r, opts) => timed(async () => conn(await libp2p.dial(target(r.addr), opts))),
  hangUp: async (r, opts) => {
    await libp2p.hangUp(target(r.addr), opts)
    return {}
  },
  conns: () => ({ conns: libp2p.getConnections().map(conn) }),
  peers: async () => ({
    peers: await collect(await libp2p.peerStore.all(), (p) => ({
      id: p.id.toString(),
      addrs: p.addresses.map((a) => String(a.multiaddr)),
      certified: p.addresses.filter((a) => a.isCertified).map((a) => String(a.multiaddr)), // by a signed peer record
      protocols: p.protocols,
      agent: p.metadata.get('AgentVersion') && new TextDecoder().decode(p.metadata.get('AgentVersion'))
    }))
  }),
  // Serve `protocol`, by resetting its streams, or stop: either way identify tells the peers.
  handle: async (r) => {
    await libp2p.handle(r.protocol, (stream) => stream.abort(new Error('only a name')))
    return {}
  },
  unhandle: async (r) => {
    await libp2p.unhandle(r.protocol)
    return {}
  },
  ping: async (r, opts) => ({ ms: await libp2p.services.ping.ping(target(r.addr), opts) }),
  perf: async (r, opts) =>
    timed(async () => {
      const s = await libp2p.dialProtocol(target(r.addr), '/perf/1.0.0', { ...opts, runOnLimitedConnection: true })
      const head = Buffer.alloc(8)
      head.writeBigUInt64BE(BigInt(r.recv ?? 0))
      s.send(head)
      await pump(s, r.send ?? 0)
      await s.close({ signal: opts.signal })
      let n = 0
      for await (const b of s) n += b.byteLength
      return { sent: r.send ?? 0, received: n }
    }),
  echo: async (r, opts) =>
    timed(async () => {
      const data = bytesOf(r)
      const s = await libp2p.dialProtocol(target(r.addr), '/test/echo/1.0.0', { ...opts, runOnLimitedConnection: true })
      const h = createHash('sha256')
      let n = 0
      const reader = (async () => {
        for await (const b of s) {
          n += b.byteLength
          for (const c of chunks(b)) h.update(c)
        }
      })()
      const step = r.step ?? 65536
      for (let i = 0; i < data.length; i += step) if (!s.send(data.subarray(i, i + step))) await s.onDrain()
      await s.close()
      await reader
      return { bytes: n, match: h.digest('hex') === createHash('sha256').update(data).digest('hex') }
    }),
  addBytes: async (r, opts) =>
    timed(async () => {
      const data = bytesOf(r)
      const cid = await fs.addBytes(data, {
        ...opts,
        cidVersion: r.cidVersion ?? 1,
        rawLeaves: r.rawLeaves ?? true,
        reduceSingleLeafToSelf: r.reduceSingleLeafToSelf,
        chunker: fixedSize({ chunkSize: r.chunk ?? 1048576 }),
        layout: balanced({ maxChildrenPerNode: r.width ?? 1024 })
      })
      return { cid: cid.toString(), bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') }
    }),
  // { files: [{ path, text | b64 }] } in one directory
  addFiles: async (r, opts) => {
    let root
    for await (const e of fs.addAll(
      r.files.map((f) => ({ path: f.path, content: bytesOf({ b64: f.b64, text: f.text }) })),
      { ...opts, wrapWithDirectory: true, shardSplitThresholdBytes: r.shardBytes }
    ))
      root = e.cid
    return { cid: root.toString() }
  },
  ls: async (r, opts) => ({
    entries: await collect(fs.ls(CID.parse(r.cid), { ...opts, path: r.path }), (e) => ({
      name: e.name,
      cid: e.cid.toString(),
      size: Number(e.size),
      type: e.type
    }))
  }),
  cat: async (r, opts) =>
    timed(async () => {
      const cid = CID.parse(r.cid)
      const store = await source(r, cid)
      const h = createHash('sha256')
      let n = 0
      for await (const b of unixfs({ blockstore: store }).cat(cid, {
        ...opts,
        path: r.path,
        offline: r.offline,
        providers: r.session ? undefined : r.providers?.map((p) => multiaddr(p)),
        blockReadConcurrency: r.concurrency
      })) {
        h.update(b)
        n += b.length
      }
      return { bytes: n, sha256: h.digest('hex') }
    }),
  blockPut: async (r, opts) => {
    const data = bytesOf(r)
    const cid = await cidFor(r, data)
    await helia.blockstore.put(cid, data, opts)
    return { cid: cid.toString(), size: data.length }
  },
  blockPutMany: async (r, opts) => {
    const cids = []
    for (let i = 0; i < r.count; i++) {
      const data = gen(r.size, `${r.genSeed ?? 'b'}-${i}`)
      const cid = await cidFor({}, data)
      await helia.blockstore.put(cid, data, opts)
      cids.push(cid.toString())
    }
    return { cids }
  },
  blockGet: async (r, opts) =>
    timed(async () => {
      const cid = CID.parse(r.cid)
      const d = await blk(await source(r, cid), cid, { ...opts, offline: r.offline })
      return {
        size: d.length,
        sha256: createHash('sha256').update(d).digest('hex'),
        b64: r.data === false ? undefined : b64(d)
      }
    }),
  // `concurrency` gets at a time
  blockGetMany: async (r, opts) =>
    timed(async () => {
      const store = await source(r, CID.parse(r.cids[0]))
      let i = 0
      let n = 0
      let blocks = 0
      await Promise.all(
        Array.from({ length: r.concurrency ?? 64 }, async () => {
          while (i < r.cids.length) {
            const data = await blk(store, CID.parse(r.cids[i++]), opts)
            n += data.length // not `n += (await …).length`, which reads n before the others have added theirs
            blocks++
          }
        })
      )
      return { blocks, bytes: n }
    }),
  blockHas: async (r) => ({ has: await helia.blockstore.has(CID.parse(r.cid)) }),
  blockRm: async (r) => {
    await rm(CID.parse(r.cid))
    return { has: await helia.blockstore.has(CID.parse(r.cid)) }
  },
  wipe: async () => {
    let n = 0
    for (const c of await collect(helia.blockstore.getAll(), (e) => e.cid)) {
      await rm(c)
      n++
    }
    return { removed: n }
  },
  provide: async (r, opts) =>
    timed(async () => {
      await helia.routing.provide(CID.parse(r.cid), opts)
      return {}
    }),
  findProviders: async (r, opts) =>
    timed(async () => ({
      providers: await collect(helia.routing.findProviders(CID.parse(r.cid), opts), (p) => ({
        id: peerIdFromString(p.id.toString()).toString(),
        addrs: p.multiaddrs.map(String)
      }))
    })),
  findPeer: async (r, opts) => {
    const p = await libp2p.peerRouting.findPeer(peerIdFromString(r.peer), opts)
    return { peer: p.id.toString(), addrs: p.multiaddrs.map(String) }
  },
  closest: async (r, opts) => ({
    peers: await collect(libp2p.peerRouting.getClosestPeers(keyOf(r), opts), (p) => p.id.toString())
  }),
  dhtTable: (r) => ({ size: dhtOf(r).routingTable.size, mode: dhtOf(r).getMode() }),
  dhtPut: async (r, opts) => {
    const ev = await collect(dhtOf(r).put(keyOf(r), bytesOf(r), opts))
    return {
      stored: ev
        .filter((e) => e.name === 'PEER_RESPONSE' && e.messageName === 'PUT_VALUE')
        .map((e) => e.from.toString()),
      errors: ev.filter((e) => e.name === 'QUERY_ERROR').map((e) => String(e.error))
    }
  },
  dhtGet: async (r, opts) => {
    const ev = await collect(dhtOf(r).get(keyOf(r), opts))
    const v = ev.filter((e) => e.name === 'VALUE').pop()
    return v ? { b64: b64(v.value), from: v.from.toString() } : { b64: null }
  },
  ipnsPublish: async (r, opts) =>
    timed(async () => {
      const p = await names.publish(r.name ?? 'self-test', r.value.startsWith('/') ? r.value : CID.parse(r.value), {
        ...opts,
        lifetime: r.lifetime,
        ttl: r.ttl,
        offline: r.offline,
        v1Compatible: r.v1Compatible
      })
      return {
        name: p.name,
        sequence: String(p.record.sequence ?? ''),
        value: new TextDecoder().decode(p.record.value ?? new Uint8Array())
      }
    }),
  ipnsResolve: async (r, opts) =>
    timed(async () => ({
      values: await collect(names.resolve(r.name, { ...opts, nocache: r.nocache ?? true }), (e) => e.value)
    })),
  carExport: async (r, opts) => {
    const w = createWriteStream(r.path)
    let n = 0
    for await (const b of cars.export(CID.parse(r.cid), opts)) {
      n += b.length
      if (!w.write(b)) await once(w, 'drain')
    }
    w.end()
    await once(w, 'finish')
    return { bytes: n }
  },
  carImport: async (r, opts) => {
    const rd = await CarReader.fromIterable(createReadStream(r.path))
    await cars.import(rd, opts)
    return { roots: (await rd.getRoots()).map(String) }
  },
  mem: () => {
    globalThis.gc?.()
    const m = process.memoryUsage()
    const hwm = +/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]
    return { rss: m.rss, heapUsed: m.heapUsed, arrayBuffers: m.arrayBuffers, peakRss: hwm * 1024 }
  },
  close: async () => {
    setTimeout(() => process.exit(0), 3000).unref()
    await helia.stop()
    return {}
  }
}
