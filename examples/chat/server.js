// A chat of one room per machine: shows which region and machine answered, and how far away it is.
import { createReadStream } from 'node:fs'
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'

const here = {
  region: process.env.FLY_REGION ?? 'local',
  machine: process.env.FLY_MACHINE_ID ?? 'local',
  app: process.env.FLY_APP_NAME ?? 'chat',
}

const server = createServer((request, response) => {
  const path = new URL(request.url, 'http://x').pathname
  if (path === '/where') {
    response.setHeader('content-type', 'application/json')
    response.setHeader('cache-control', 'no-store')
    response.end(`${JSON.stringify({ ...here, edge: request.headers['fly-region'] ?? null })}\n`)
  } else if (path === '/') {
    response.setHeader('content-type', 'text/html; charset=utf-8')
    createReadStream(new URL('./public/index.html', import.meta.url)).pipe(response)
  } else {
    response.statusCode = 404
    response.end('not found\n')
  }
})

const sockets = new WebSocketServer({ server, path: '/ws', maxPayload: 4096 })
const sendAll = (message) => {
  const text = JSON.stringify(message)
  for (const socket of sockets.clients) if (socket.readyState === socket.OPEN) socket.send(text)
}

sockets.on('connection', (socket) => {
  socket.send(JSON.stringify({ kind: 'welcome', ...here, people: sockets.clients.size }))
  socket.on('message', (data) => {
    let message
    try {
      message = JSON.parse(String(data))
    } catch {
      return socket.close(1007, 'not JSON')
    }
    // A ping goes back to its sender alone, so that the page can show the round trip.
    if (message.kind === 'ping') socket.send(JSON.stringify({ kind: 'pong', sent: message.sent }))
    if (message.kind === 'say') sendAll({ kind: 'said', text: String(message.text).slice(0, 500), from: String(message.from).slice(0, 40) })
  })
  socket.on('error', () => {})
})

// When Roost replaces this machine it sends the kill signal: say goodbye properly, so that pages connect again elsewhere.
const stop = () => {
  server.close()
  for (const socket of sockets.clients) socket.close(1001, 'machine is going away')
  server.closeIdleConnections()
  setTimeout(() => process.exit(0), 3000).unref()
}
process.on('SIGINT', stop)
process.on('SIGTERM', stop)

server.listen(8080, () => console.log(`chat listens on 8080 in ${here.region}`))
