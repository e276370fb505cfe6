// Answers all that an app under fire is asked: at once, slowly, to slow uploads, over WebSockets; and leaves as a good app does.
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

const version = 'one'
const here = { version, region: process.env.FLY_REGION, machine: process.env.FLY_MACHINE_ID, secret: process.env.SECRET ?? null }
let leaving = false

const answeredAt = new WeakMap()

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://x')
  let bytes = 0
  // For how long the connection had rested: whoever keeps it for five seconds meets our closing it.
  const rested = Math.round(performance.now() - (answeredAt.get(request.socket) ?? performance.now()))
  response.on('finish', () => answeredAt.set(request.socket, performance.now()))
  request.on('data', (chunk) => { bytes += chunk.length })
  request.on('end', () => {
    const answer = () => {
      response.setHeader('content-type', 'application/json')
      if (leaving) response.setHeader('connection', 'close')
      response.end(JSON.stringify({ ...here, bytes, rested }))
    }
    const ms = Number(url.searchParams.get('ms') ?? 0)
    if (ms > 0) setTimeout(answer, ms)
    else answer()
  })
})
const sockets = new WebSocketServer({ server, path: '/ws', maxPayload: 4096 })
sockets.on('connection', (socket) => {
  socket.on('message', (data) => socket.send(String(data)))
  socket.on('error', () => {})
})
process.on('SIGINT', () => {
  leaving = true
  server.close(() => process.exit(0))
  for (const socket of sockets.clients) socket.close(1001, 'machine is going away')
  server.closeIdleConnections()
})
server.listen(8080, () => console.log(`fire ${version} listens in ${here.region}`))
