import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectH2 } from 'node:http2'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { parseArgs } from 'node:util'
import { WebSocket } from 'ws'
import { callGrpc } from '../../../packages/edge/src/trial-grpc.ts'

/**
 * Asks a service from inside a client's network namespace, each time anew: once; `--count` times, with all connections left open; or again
 * and again, until `--seconds` are over or standard input is. Ends with one line of JSON: how often which answer came, and what failed.
 */
const { values } = parseArgs({
  options: {
    to: { type: 'string', default: '' },
    port: { type: 'string' },
    kind: { type: 'string', default: 'tcp' },
    /** The name that is asked for, and the file with the authority that must have signed for it. */
    name: { type: 'string', default: '' },
    ca: { type: 'string', default: '' },
    alpn: { type: 'string' },
    path: { type: 'string', default: '/' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '0' },
    count: { type: 'string', default: '0' },
  },
})
const { to, name, path } = values
const port = Number(values.port)
const count = Number(values.count)
const ANSWER_MS_MAX = 10_000
const authority = () => readFileSync(values.ca)

async function askTcp(): Promise<string> {
  const socket =
    values.kind === 'tls'
      ? connectTls({
          ...{ host: to, port, servername: name, ca: authority() },
          ...(values.alpn === undefined ? {} : { ALPNProtocols: [values.alpn] }),
        })
      : connect(port, to)
  socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy(new Error('no answer')))
  let heard = ''
  const answered = new Promise<void>((resolve, reject) => {
    socket.on('data', (chunk) => {
      heard += chunk
      if (!heard.includes('ping')) return
      if (count === 0) socket.end()
      else resolve()
    })
    socket.on('close', () => resolve())
    socket.on('error', reject)
  })
  socket.write('ping\n')
  await answered
  const alpn = 'alpnProtocol' in socket ? ` ${socket.alpnProtocol}` : ''
  if (heard === '') throw new Error('closed without an answer')
  return `${heard.trim().replaceAll('\n', ' / ')}${alpn}`
}

async function askUdp(): Promise<string> {
  const socket = createSocket('udp4')
  try {
    socket.send('ping', port, to)
    const [message] = await once(socket, 'message', { signal: AbortSignal.timeout(2000) })
    return String(message)
  } finally {
    socket.close()
  }
}

async function askWebSocket(): Promise<string> {
  const secure = values.ca === '' ? {} : { ca: authority(), servername: name }
  const socket = new WebSocket(`${values.ca === '' ? 'ws' : 'wss'}://${to}:${port}${path}`, {
    ...{ headers: { host: name }, handshakeTimeout: ANSWER_MS_MAX, ...secure },
  })
  await once(socket, 'open')
  socket.send('ping')
  const [message] = await once(socket, 'message')
  socket.close()
  const [code] = await once(socket, 'close')
  return `${message} ${code}`
}

/** RFC 8441. */
async function askWebSocketOverH2(): Promise<string> {
  const session = connectH2(`https://${to}:${port}`, { ca: authority(), servername: name })
  await once(session, 'remoteSettings')
  const stream = session.request({
    ...{ ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https' },
    ...{ ':path': path, ':authority': name, 'sec-websocket-version': '13' },
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  })
  const [headers] = await once(stream, 'response')
  // A text frame, its mask all zeros.
  stream.write(Buffer.concat([Buffer.from([0x81, 0x84, 0, 0, 0, 0]), Buffer.from('ping')]))
  const [frame] = (await once(stream, 'data')) as [Buffer]
  session.destroy()
  return `${headers[':status']} ${frame.subarray(2)}`
}

async function askGrpc(): Promise<string> {
  const at = { address: `${to}:${port}`, authority: name, ca: authority() }
  return (await callGrpc(at)).join(' / ')
}

const KINDS: Readonly<Record<string, () => Promise<string>>> = {
  tcp: askTcp,
  tls: askTcp,
  udp: askUdp,
  ws: askWebSocket,
  'ws-h2': askWebSocketOverH2,
  grpc: askGrpc,
}
const ask = KINDS[values.kind]
if (ask === undefined) throw new Error(`no such kind: ${values.kind}`)

const answers: Record<string, number> = {}
const failures: string[] = []
async function askOnce(): Promise<void> {
  await ask?.().then(
    (answer) => {
      answers[answer] = (answers[answer] ?? 0) + 1
    },
    (error: Error) => {
      failures.push(error.message)
    },
  )
}

const pauseMs = 1000 / Number(values.rate)
const pending = new Set<Promise<void>>()
if (count > 0)
  for (let n = 0; n < count; n++) {
    await askOnce()
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
else if (values.seconds === '0') await askOnce()
else {
  const timer = setInterval(() => {
    const one: Promise<void> = askOnce().then(() => void pending.delete(one))
    pending.add(one)
  }, pauseMs)
  const ends = new Promise((resolve) => process.stdin.on('end', resolve).resume())
  const late = new Promise((resolve) => setTimeout(resolve, Number(values.seconds) * 1000).unref())
  await Promise.race([ends, late])
  clearInterval(timer)
}
await Promise.all(pending)
console.log(JSON.stringify({ answers, failures }))
process.exit(0)
