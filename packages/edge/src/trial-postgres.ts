import { createServer, type Server, type Socket } from 'node:net'

/** For tests: as much of a Postgres server as psql needs for one query, which it answers with `name`. */
export function fakePostgres(name: string): Server {
  return createServer((socket) => {
    let text = Buffer.alloc(0)
    let started = false
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      text = Buffer.concat([text, chunk])
      const header = started ? 1 : 0
      while (text.length >= header + 4) {
        const length = header + text.readUInt32BE(header)
        if (text.length < length) return
        const kind = started ? String.fromCharCode(text[0] ?? 0) : 'startup'
        text = text.subarray(length)
        answer(socket, kind, name)
        if (!started) {
          started = true
          break
        }
      }
    })
  })
}

function answer(socket: Socket, kind: string, name: string): void {
  const ready = message('Z', Buffer.from('I'))
  if (kind === 'startup') socket.write(Buffer.concat([message('R', Buffer.alloc(4)), ready]))
  else if (kind === 'X') socket.end()
  else if (kind === 'Q') {
    const column = Buffer.concat([Buffer.from('who\0'), Buffer.alloc(18)])
    column.writeUInt32BE(25, 4 + 6)
    const value = Buffer.from(name)
    socket.write(
      Buffer.concat([
        message('T', Buffer.concat([Buffer.from([0, 1]), column])),
        message('D', Buffer.concat([Buffer.from([0, 1, 0, 0, 0, value.length]), value])),
        message('C', Buffer.from('SELECT 1\0')),
        ready,
      ]),
    )
  }
}

function message(kind: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(kind)
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}
