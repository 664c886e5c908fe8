// Two protocols of plain streams, for tests of what lies below bitswap.
import { libp2p } from './node.mjs'

// /test/echo/1.0.0 sends back what it is sent, until the other side closes.
await libp2p.handle(
  '/test/echo/1.0.0',
  async (stream) => {
    try {
      for await (const b of stream) if (!stream.send(b)) await stream.onDrain()
      await stream.close()
    } catch (e) {
      stream.abort(e)
    }
  },
  { runOnLimitedConnection: true }
)

// A read gives one Uint8Array, or a list of them.
export const chunks = (b) => (b instanceof Uint8Array ? [b] : [...b]) // Uint8Array | Uint8ArrayList
const zeros = new Uint8Array(65536)
export const pump = async (s, n) => {
  for (; n > 0; n -= zeros.length) if (!s.send(n < zeros.length ? zeros.subarray(0, n) : zeros)) await s.onDrain()
}
// /perf/1.0.0: a big-endian u64 of bytes wanted back, then the upload until it is half closed.
await libp2p.handle(
  '/perf/1.0.0',
  async (stream) => {
    try {
      let head = Buffer.alloc(0)
      for await (const b of stream) if (head.length < 8) head = Buffer.concat([head, ...chunks(b)])
      await pump(stream, Number(head.readBigUInt64BE()))
      await stream.close()
    } catch (e) {
      stream.abort(e)
    }
  },
  { runOnLimitedConnection: true }
)
