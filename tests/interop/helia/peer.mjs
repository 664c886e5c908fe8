// A Helia node driven by lines of JSON: {"id", "cmd", ...} on stdin, {"id", "ok", ...} on stdout, in any order.
// The first line out is {"event": "ready", "peerId", "addrs", ...}. The end of stdin ends the process.
import readline from 'node:readline'
import { commands } from './commands.mjs'
import { helia } from './node.mjs'

const DEFAULT_TIMEOUT = 30_000 // milliseconds; a request may bring its own `timeout`

const say = (message) =>
  process.stdout.write(JSON.stringify(message, (_, v) => (typeof v === 'bigint' ? v.toString() : v)) + '\n')

const answer = async (line) => {
  let request
  try {
    request = JSON.parse(line)
    const command = commands[request.cmd]
    if (command == null) throw new Error(`unknown cmd ${request.cmd}; one of ${Object.keys(commands).join(' ')}`)
    const result = await command(request, { signal: AbortSignal.timeout(request.timeout ?? DEFAULT_TIMEOUT) })
    say({ ...result, id: request.id, ok: true })
  } catch (e) {
    say({ id: request?.id, ok: false, error: `${e.name}: ${e.message}`, causes: e.errors?.map(String) })
  }
  if (request?.cmd === 'close') process.exit(0)
}

process.on('uncaughtException', (e) => say({ event: 'uncaught', error: e.stack }))
process.on('unhandledRejection', (e) => say({ event: 'unhandled', error: e?.stack ?? String(e) }))
say({ event: 'ready', ...commands.id() })
readline
  .createInterface({ input: process.stdin })
  .on('line', (line) => line.trim() && answer(line))
  .on('close', async () => {
    setTimeout(() => process.exit(0), 3000).unref()
    await helia.stop()
    process.exit(0)
  })
