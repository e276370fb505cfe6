import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { parseArgs } from 'node:util'

/**
 * Asks a service again and again from inside a client's network namespace, each time anew. Ends after `--seconds`, or when standard
 * input does, with one line of JSON: how often which answer came, and what failed.
 */
const { values } = parseArgs({
  options: {
    to: { type: 'string' },
    port: { type: 'string' },
    kind: { type: 'string', default: 'tcp' },
    /** TLS: the name that is asked for. */
    name: { type: 'string' },
    alpn: { type: 'string' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '0' },
  },
})
const to = values.to ?? ''
const port = Number(values.port)
const ANSWER_MS_MAX = 10_000

async function ask(): Promise<string> {
  if (values.kind === 'udp') return askUdp()
  const socket =
    values.kind === 'tls'
      ? connectTls({
          host: to,
          port,
          servername: values.name ?? '',
          // Whose certificate it is, the edge's own tests look at.
          rejectUnauthorized: false,
          ...(values.alpn === undefined ? {} : { ALPNProtocols: [values.alpn] }),
        })
      : connect(port, to)
  socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy(new Error('no answer')))
  let heard = ''
  socket.on('data', (chunk) => {
    heard += chunk
    if (heard.includes('ping')) socket.end()
  })
  socket.write('ping\n')
  await once(socket, 'close')
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

const answers: Record<string, number> = {}
const failures: string[] = []
const pending = new Set<Promise<void>>()
function askOnce(): void {
  const one = ask()
    .then(
      (answer) => {
        answers[answer] = (answers[answer] ?? 0) + 1
      },
      (error: Error) => {
        failures.push(error.message)
      },
    )
    .then(() => {
      pending.delete(one)
    })
  pending.add(one)
}

if (values.seconds === '0') askOnce()
else {
  const timer = setInterval(askOnce, 1000 / Number(values.rate))
  const ends = new Promise((resolve) => process.stdin.on('end', resolve).resume())
  const late = new Promise((resolve) => setTimeout(resolve, Number(values.seconds) * 1000).unref())
  await Promise.race([ends, late])
  clearInterval(timer)
}
await Promise.all(pending)
console.log(JSON.stringify({ answers, failures }))
process.exit(0)
