// One Helia node, made from the command line's options: loopback only, no bootstrap, no HTTP gateways.
import { createHash } from 'node:crypto'
import { parseArgs } from 'node:util'
import { withBitswap } from '@helia/bitswap'
import { car } from '@helia/car'
import { ipns } from '@helia/ipns'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagJson from '@ipld/dag-json'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { dcutr } from '@libp2p/dcutr'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper, removePrivateAddressesMapper, removePublicAddressesMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createHeliaLight } from 'helia'
import ipldGit from 'ipld-git'
import { CID } from 'multiformats/cid'
import * as json from 'multiformats/codecs/json'
import { from as hasher } from 'multiformats/hashes/hasher'
import { identity as identityHash } from 'multiformats/hashes/identity'
import { sha256, sha512 } from 'multiformats/hashes/sha2'

export const { values: options } = parseArgs({
  options: {
    listen: { type: 'string', multiple: true }, // default /ip4/127.0.0.1/tcp/0
    sec: { type: 'string', default: 'noise,tls' }, // order = preference
    kad: { type: 'string', default: 'amino' }, // amino | lan | both | none
    client: { type: 'boolean', default: false }, // DHT client mode
    quic: { type: 'boolean', default: false }, // adds /udp/0/quic-v1
    relay: { type: 'boolean', default: false }, // circuit relay v2 hop service
    circuit: { type: 'boolean', default: false }, // circuit transport, dcutr
    limited: { type: 'boolean', default: false }, // bitswap over limited (relayed) conns
    announce: { type: 'string', multiple: true }, // extra announced addresses, e.g. /dns4/localhost/tcp/PORT
    mapper: { type: 'string', default: 'pass' }, // kad-dht peerInfoMapper: pass | public (drops private: js default) | private (drops public)
    bare: { type: 'boolean', default: false }, // no extra hashers or codecs (Helia light: sha2-256, identity, dag-pb, raw)
    nomonitor: { type: 'boolean', default: false }, // no connection monitor (10 s ping heartbeat)
    nodcutr: { type: 'boolean', default: false },
    seed: { type: 'string' }, // string -> sha256 -> ed25519 key
    key: { type: 'string', default: 'Ed25519' } // Ed25519 | secp256k1 | RSA | ECDSA
  }
})

const sha1 = hasher({ name: 'sha1', code: 0x11, encode: (b) => createHash('sha1').update(b).digest() })
export const HASHES = { 'sha2-256': sha256, 'sha2-512': sha512, sha1, identity: identityHash }
export const CODECS = { raw: 0x55, 'dag-pb': 0x70, 'dag-cbor': 0x71, 'dag-json': 0x0129, 'git-raw': 0x78, json: 0x0200 }
// ipld-git 0.6.6 decodes trees, commits and tags; its legacy `cids` become CIDs of multiformats.
const modernCids = (v) => {
  const c = CID.asCID(v)
  if (c) return c
  if (v instanceof Uint8Array || v == null || typeof v !== 'object') return v
  return Array.isArray(v)
    ? v.map(modernCids)
    : Object.fromEntries(Object.entries(v).map(([k, x]) => [k, modernCids(x)]))
}
const gitRaw = {
  name: 'git-raw',
  code: 0x78,
  encode: (o) => ipldGit.util.serialize(o),
  decode: (b) => modernCids(ipldGit.util.deserialize(b))
}

const privateKey =
  options.seed != null
    ? await generateKeyPairFromSeed('Ed25519', createHash('sha256').update(options.seed).digest())
    : await generateKeyPair(options.key, options.key === 'RSA' ? 2048 : undefined)
const dht = (protocol, tag) =>
  kadDHT({
    protocol,
    clientMode: options.client,
    peerInfoMapper: {
      pass: passthroughMapper,
      public: removePrivateAddressesMapper,
      private: removePublicAddressesMapper
    }[options.mapper],
    allowQueryWithZeroPeers: true,
    initialQuerySelfInterval: 100,
    logPrefix: `libp2p:dht-${tag}`,
    datastorePrefix: `/dht-${tag}`,
    metricsPrefix: `libp2p_dht_${tag}`,
    validators: { test: async () => {} },
    selectors: { test: () => 0 }
  })
const services = {
  identify: identify(),
  identifyPush: identifyPush(),
  ping: ping({ maxInboundStreams: 16, maxOutboundStreams: 16 })
}
if (options.kad === 'amino' || options.kad === 'both') services.dht = dht('/ipfs/kad/1.0.0', 'amino')
if (options.kad === 'lan' || options.kad === 'both') services.lan = dht('/ipfs/lan/kad/1.0.0', 'lan')
if (options.relay) services.relay = circuitRelayServer()
if (options.circuit && !options.nodcutr) services.dcutr = dcutr()
const transports = [tcp()]
const listen = options.listen ?? ['/ip4/127.0.0.1/tcp/0']
if (options.quic) {
  transports.push((await import('@chainsafe/libp2p-quic')).quic())
  listen.push('/ip4/127.0.0.1/udp/0/quic-v1')
}
if (options.circuit) transports.push(circuitRelayTransport())

export const helia = await withBitswap(
  withLibp2pLight(
    createHeliaLight(
      options.bare
        ? {}
        : {
            codecs: [dagCbor, dagJson, json, gitRaw],
            hashers: [sha512, sha1]
          }
    ),
    {
      privateKey,
      addresses: { listen, appendAnnounce: options.announce ?? [] },
      transports,
      connectionEncrypters: options.sec.split(',').map((s) => ({ noise, tls })[s]()),
      streamMuxers: [yamux()],
      peerDiscovery: [],
      connectionGater: { denyDialMultiaddr: () => false },
      connectionManager: { inboundConnectionThreshold: Infinity, maxIncomingPendingConnections: 100 },
      connectionMonitor: { enabled: !options.nomonitor },
      services
    }
  ),
  { runOnLimitedConnections: options.limited }
).start()

export const libp2p = helia.libp2p
export const names = ipns(helia) // after start(): it also gives the DHTs their ipns validator and selector
export const fs = unixfs(helia)
export const cars = car(helia)
