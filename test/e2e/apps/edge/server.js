// One program that is asked in every way. Whoever asks is told who answered, and what was heard.
const { createHash } = require('node:crypto')
const { createSocket } = require('node:dgram')
const { readFileSync } = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const net = require('node:net')
const tls = require('node:tls')

const version = 'one'
const app = process.env.FLY_APP_NAME
const region = process.env.FLY_REGION
const machine = process.env.FLY_MACHINE_ID
const me = `${app} ${region} ${version}`
const open = []
const quiet = (socket) => socket.on('error', () => socket.destroy())

// HTTP. `ms`: takes so long. `pad`: answers with so much more. `status`: with this. `say=name:value`, `json`: the answer to a request
// that nobody has sent on yet, with `always` to every one, with `by` only in that region.
function answering() {
  let busy = 0
  let sickUntil = 0
  return (asked, answer) => {
    const url = new URL(asked.url, 'http://x')
    const of = (name) => url.searchParams.get(name)
    if (url.pathname === '/health') return answer.writeHead(Date.now() < sickUntil ? 503 : 200).end()
    if (url.pathname === '/sick') sickUntil = Date.now() + Number(of('for'))
    if (asked.headers['content-type'] === 'application/grpc') return grpc(asked, answer, url.pathname)
    busy += 1
    answer.on('close', () => { busy -= 1 })
    const here = { app, region, machine, version, busy, method: asked.method, url: asked.url, http: asked.httpVersion }
    let bytes = 0
    asked.on('data', (chunk) => { bytes += chunk.length })
    asked.on('end', () => setTimeout(() => {
      const { json, headers } = saidTo(asked, url)
      for (const [name, value] of headers) answer.setHeader(name, value)
      if (json !== null) return answer.writeHead(200, { 'content-type': 'application/vnd.fly.replay+json' }).end(json)
      answer.writeHead(Number(of('status') ?? 200), { 'content-type': 'application/json' })
      answer.end(`${JSON.stringify({ ...here, bytes, headers: asked.headers, pad: 'x'.repeat(Number(of('pad'))) })}\n`)
    }, Number(of('ms'))))
  }
}

function saidTo(asked, url) {
  const known = asked.headers['fly-replay-src'] ?? asked.headers['fly-replay-failed']
  const by = url.searchParams.get('by') ?? region
  if (by !== region || (known !== undefined && !url.searchParams.has('always'))) return { json: null, headers: [] }
  const headers = url.searchParams.getAll('say').map((text) => [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)])
  return { json: url.searchParams.get('json'), headers }
}

// WebSockets: each message comes back after the machine's name. Frames of at most 125 bytes.
function webSocket(asked, socket) {
  quiet(socket)
  const { headers } = saidTo(asked, new URL(asked.url, 'http://x'))
  if (headers.length > 0) {
    const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`)
    return socket.end(`HTTP/1.1 200 OK\r\n${lines.join('')}content-length: 0\r\nconnection: close\r\n\r\n`)
  }
  const accept = createHash('sha1').update(`${asked.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`)
  const frame = (kind, body) => Buffer.concat([Buffer.from([0x80 | kind, body.length]), body])
  let heard = Buffer.alloc(0)
  socket.on('data', (chunk) => {
    heard = Buffer.concat([heard, chunk])
    while (heard.length >= 6 && heard.length >= 6 + (heard[1] & 127)) {
      const length = heard[1] & 127
      const body = heard.subarray(6, 6 + length).map((byte, n) => byte ^ heard[2 + (n % 4)])
      const kind = heard[0] & 15
      heard = heard.subarray(6 + length)
      if (kind === 8) return socket.end(frame(8, body))
      socket.write(frame(kind, Buffer.from(`${me} ${body}`)))
    }
  })
}

// gRPC: each message comes back after the machine's name, and trailers say that all was well.
function grpc(asked, answer, path) {
  answer.setHeader('content-type', 'application/grpc')
  if (!/^\/trial\.Trial\/(Say|Chat)$/.test(path)) return answer.writeHead(200, { 'grpc-status': '12' }).end()
  answer.addTrailers({ 'grpc-status': '0' })
  let heard = Buffer.alloc(0)
  asked.on('data', (chunk) => {
    heard = Buffer.concat([heard, chunk])
    while (heard.length >= 5 && heard.length >= 5 + heard.readUInt32BE(1)) {
      const length = heard.readUInt32BE(1)
      const body = Buffer.from(`${me}: ${heard.subarray(5, 5 + length)}`)
      heard = heard.subarray(5 + length)
      const head = Buffer.alloc(5)
      head.writeUInt32BE(body.length, 1)
      answer.write(Buffer.concat([head, body]))
    }
  })
  asked.on('end', () => answer.end())
}

for (const port of [8080, 8090]) open.push(http.createServer(answering()).on('upgrade', webSocket).listen(port))
open.push(http2.createServer(answering()).listen(50051))

// Speaks first, then says again what it hears.
open.push(net.createServer((socket) => {
  quiet(socket).write(`${me} tcp\n`)
  socket.pipe(socket)
}).listen(9000))

// Says what came before the first word.
const V2 = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
function proxied(chunk) {
  if (!chunk.subarray(0, 12).equals(V2)) return String(chunk).split('\r\n')[0]
  const [from, to] = [16, 20].map((at) => [...chunk.subarray(at, at + 4)].join('.'))
  return `PROXY v2 ${from} ${to} ${chunk.readUInt16BE(24)} ${chunk.readUInt16BE(26)}`
}
open.push(net.createServer((socket) => quiet(socket).once('data', (chunk) => socket.end(`${me} ${proxied(chunk)}\n`))).listen(9001))

open.push(tls.createServer({ key: readFileSync('/own.key'), cert: readFileSync('/own.pem') }, (socket) => {
  quiet(socket).write(`${me} own tls\n`)
  socket.pipe(socket)
}).listen(9443))

// As much of a Postgres server as psql needs for one query, which it answers with its name.
const message = (kind, body) => {
  const head = Buffer.alloc(5)
  head.write(kind)
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}
function postgres(kind) {
  const ready = message('Z', Buffer.from('I'))
  if (kind === 'startup') return Buffer.concat([message('R', Buffer.alloc(4)), ready])
  const column = Buffer.concat([Buffer.from('who\0'), Buffer.alloc(18)])
  column.writeUInt32BE(25, 10)
  return Buffer.concat([
    message('T', Buffer.concat([Buffer.from([0, 1]), column])),
    message('D', Buffer.concat([Buffer.from([0, 1, 0, 0, 0, me.length]), Buffer.from(me)])),
    message('C', Buffer.from('SELECT 1\0')),
    ready,
  ])
}
open.push(net.createServer((socket) => {
  let heard = Buffer.alloc(0)
  let header = 0
  quiet(socket).on('data', (chunk) => {
    heard = Buffer.concat([heard, chunk])
    while (heard.length >= header + 4 && heard.length >= header + heard.readUInt32BE(header)) {
      const kind = header === 0 ? 'startup' : String.fromCharCode(heard[0])
      heard = heard.subarray(header + heard.readUInt32BE(header))
      header = 1
      if (kind === 'X') return socket.end()
      if (kind === 'startup' || kind === 'Q') socket.write(postgres(kind))
    }
  })
}).listen(5432))

for (const port of [5060, 5070, 5071]) {
  const udp = createSocket('udp4')
  udp.on('message', (text, from) => udp.send(`${me} ${port} ${from.address} ${text}`, from.port, from.address))
  udp.bind(port, 'fly-global-services')
}

process.on('SIGINT', () => {
  for (const server of open) server.close()
  setTimeout(() => process.exit(0), 1000)
})
