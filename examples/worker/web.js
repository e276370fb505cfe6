const { createServer } = require('node:http')

const here = { region: process.env.FLY_REGION, machine: process.env.FLY_MACHINE_ID, group: process.env.FLY_PROCESS_GROUP }
const server = createServer((request, response) => {
  response.setHeader('content-type', 'application/json')
  response.end(`${JSON.stringify(here)}\n`)
})
server.listen(8080, () => console.log('web listens on 8080'))

for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    server.close(() => process.exit(0))
    server.closeIdleConnections()
  })
