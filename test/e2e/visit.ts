import { Resolver } from 'node:dns/promises'
import { get } from 'node:http'
import { parseArgs } from 'node:util'
import { WebSocket } from 'ws'

/**
 * One visit, as a browser near a region makes it: resolve the name, one HTTP request, one WebSocket with a ping.
 * Runs inside a client's network namespace: `nsenter --net=/run/netns/NS node visit.ts --host H --dns A[:PORT] [--websocket]`.
 * Prints one line of JSON: { address, status, region, machine, edge, dnsMs, httpMs, websocket: { region, machine, openMs, pingMs } | null }.
 */
const { values } = parseArgs({
  options: {
    host: { type: 'string' },
    dns: { type: 'string' },
    path: { type: 'string', default: '/where' },
    websocket: { type: 'boolean', default: false },
    timeout: { type: 'string', default: '10000' },
  },
})
const host = values.host ?? ''
const timeoutMs = Number(values.timeout)

function since(start: number): number {
  return Math.round((performance.now() - start) * 10) / 10
}

async function resolve(): Promise<string> {
  const resolver = new Resolver({ timeout: 2000, tries: 3 })
  resolver.setServers([values.dns ?? '127.0.0.1'])
  const [address] = await resolver.resolve4(host)
  if (address === undefined) throw new Error(`no address for ${host}`)
  return address
}

function fetchOnce(address: string): Promise<{ status: number; edge: string; body: string }> {
  return new Promise((done, fail) => {
    const request = get(
      { host: address, port: 80, path: values.path, headers: { host }, timeout: timeoutMs },
      (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('end', () =>
          done({
            status: response.statusCode ?? 0,
            edge: String(response.headers['fly-request-id'] ?? ''),
            body,
          }),
        )
        response.on('error', fail)
      },
    )
    request.on('timeout', () => request.destroy(new Error('timeout')))
    request.on('error', fail)
  })
}

function openSocket(
  address: string,
): Promise<{ region: string; machine: string; openMs: number; pingMs: number }> {
  return new Promise((done, fail) => {
    const start = performance.now()
    const socket = new WebSocket(`ws://${address}/ws`, {
      headers: { host },
      handshakeTimeout: timeoutMs,
    })
    const timer = setTimeout(() => socket.terminate(), timeoutMs)
    let openMs = 0
    let welcome = { region: '', machine: '' }
    socket.on('open', () => {
      openMs = since(start)
    })
    socket.on('message', (data) => {
      const message = JSON.parse(String(data))
      if (message.kind === 'welcome') {
        welcome = { region: message.region, machine: message.machine }
        socket.send(JSON.stringify({ kind: 'ping', sent: performance.now() }))
      }
      if (message.kind === 'pong') {
        clearTimeout(timer)
        done({ ...welcome, openMs, pingMs: since(message.sent) })
        socket.close()
      }
    })
    socket.on('error', fail)
    socket.on('close', () => fail(new Error('closed before it answered')))
  })
}

try {
  const dnsStart = performance.now()
  const address = await resolve()
  const dnsMs = since(dnsStart)
  const httpStart = performance.now()
  const { status, edge, body } = await fetchOnce(address)
  const httpMs = since(httpStart)
  const answer = status === 200 && body.startsWith('{') ? JSON.parse(body) : {}
  const websocket = values.websocket ? await openSocket(address) : null
  console.log(
    JSON.stringify({
      address,
      status,
      region: answer.region ?? null,
      machine: answer.machine ?? null,
      edge,
      dnsMs,
      httpMs,
      websocket,
      body: body.slice(0, 200),
    }),
  )
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }))
  process.exitCode = 1
}
