import { createServer, type Server, type Socket } from 'node:net'
import { abstractPath } from '../haproxy/abstract-path.ts'
import {
  type ConnectionLine,
  type LogLine,
  parseConnectionLine,
  parseFailedHandshake,
  parseLogLine,
} from './log-line.ts'

/** Of one line, and some: what is longer is none of ours. */
const LINE_CHARS_MAX = 4096
/** Workers of HAProxy that were replaced may write for as long as they live. */
const READERS_MAX = 100

/** Reads what HAProxy says of its answers and connections. Each worker has a connection of its own. */
export function listenToTraffic(
  socket: string,
  heard: {
    answer(line: LogLine): void
    connection(line: ConnectionLine): void
    /** The name as the client wrote it. */
    failedHandshake(servername: string): void
  },
): Promise<{ readonly port: number; close(): Promise<void> }> {
  return new Promise((resolve, reject) => {
    const open = new Set<Socket>()
    const server: Server = createServer((from) => {
      open.add(from)
      from.on('close', () => open.delete(from))
      from.on('error', () => from.destroy())
      from.setEncoding('utf8')
      let rest = ''
      from.on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n')
        rest = lines.pop() ?? ''
        if (rest.length > LINE_CHARS_MAX) rest = ''
        for (const line of lines) {
          const answer = parseLogLine(line)
          if (answer !== null) {
            heard.answer(answer)
            continue
          }
          const connection = parseConnectionLine(line)
          if (connection !== null) heard.connection(connection)
          const failed = connection === null ? parseFailedHandshake(line) : null
          if (failed !== null) heard.failedHandshake(failed)
        }
      })
    })
    server.maxConnections = READERS_MAX
    server.once('error', reject)
    server.listen({ path: abstractPath(socket) }, () =>
      resolve({
        port: 0,
        close: async () => {
          for (const from of open) from.destroy()
          await new Promise((closed) => server.close(closed))
        },
      }),
    )
  })
}
