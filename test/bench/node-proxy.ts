import { readFileSync } from 'node:fs'
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'

/** The plainest proxy in Node: MACHINE CERTIFICATE HTTP-PORT HTTPS-PORT. */
const [, , machine = '', certificate = '', http = '', https = ''] = process.argv
const [host = '', port = ''] = machine.split(':')
const agent = new Agent({ keepAlive: true })

function pass(from: IncomingMessage, to: ServerResponse): void {
  const { method, url, headers } = from
  const asked = request({ host, port, agent, method, path: url, headers }, (answer) => {
    to.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(to)
  })
  asked.on('error', () => to.destroy())
  from.pipe(asked)
}

const pem = readFileSync(certificate)
createServer(pass).listen(Number(http), '127.0.0.1')
createSecureServer({ cert: pem, key: pem }, pass).listen(Number(https), '127.0.0.1')
