const { readFile } = require('node:fs/promises')
const { createServer } = require('node:http')

const server = createServer(async (request, response) => {
  const helper = await readFile('/shared/now', 'utf8').catch(() => '')
  response.setHeader('content-type', 'application/json')
  response.end(
    `${JSON.stringify({ region: process.env.FLY_REGION, machine: process.env.FLY_MACHINE_ID, helper: helper.trim() })}\n`,
  )
})
server.listen(8080, () => console.log('listening on 8080'))

for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    server.close(() => process.exit(0))
    server.closeIdleConnections()
  })
