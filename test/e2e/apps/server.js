import { createServer } from 'node:http'
import { userInfo } from 'node:os'
import { existsSync, readFileSync } from 'node:fs'

const version = 'one'
const built = existsSync('/app/built.txt') ? readFileSync('/app/built.txt', 'utf8').trim() : ''

const server = createServer((request, response) => {
  let bytes = 0
  request.on('data', (chunk) => { bytes += chunk.length })
  request.on('end', () => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ version, region: process.env.FLY_REGION, built, user: userInfo().username, bytes }))
  })
})
process.on('SIGINT', () => { server.close(() => process.exit(0)); server.closeIdleConnections() })
server.listen(8080)
