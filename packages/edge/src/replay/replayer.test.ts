import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { PatientSocket } from './patient-socket.ts'
import { startReplayer } from './replayer.ts'
import type { ReplayAnswer } from './steer-question.ts'

const closers: (() => Promise<unknown> | unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})
let names = 0

async function listen(name: string, serve: (socket: Socket) => void): Promise<void> {
  const open = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket)
    socket.on('error', () => {})
    serve(socket)
  })
  server.listen(abstractPath(name))
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
}

/** A replayer between a client and what HAProxy and an app behind it say, byte by byte. */
async function start(
  say: (socket: Socket, heard: () => string) => void,
  steer: (socket: Socket) => void = (socket) => socket.destroy(),
) {
  names += 1
  const name = `roost-replayer-test-${process.pid}-${names}`
  await listen(`${name}.again`, (socket) => {
    let text = ''
    let said = false
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      if (said || !text.includes('\r\n\r\n')) return
      said = true
      say(socket, () => text)
    })
  })
  await listen(`${name}.steer`, steer)
  const replayer = await startReplayer({
    replaySocket: `${name}.replay`,
    againSocket: `${name}.again`,
    steerSocket: `${name}.steer`,
  })
  closers.push(() => replayer.close())
  const client = () => {
    const socket = new PatientSocket()
    socket.on('error', () => {})
    socket.connect(abstractPath(`${name}.replay`))
    closers.push(() => socket.destroy())
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
    })
    const ended = new Promise<string>((resolve) => {
      socket.once('close', () => resolve(text))
    })
    return { socket, ended }
  }
  return {
    replayer,
    client,
    ask(...lines: readonly string[]): Promise<string> {
      const { socket, ended } = client()
      socket.write(head(...lines), 'latin1')
      return ended
    },
  }
}
const head = (...lines: readonly string[]) =>
  `${[...lines, 'host: shop.test', 'roost-host: shop.test'].join('\r\n')}\r\n\r\n`
const CLOSE = 'connection: close'
const OK = 'HTTP/1.1 200 OK\r\nroost-answered: 00000000000001.a0\r\n'

describe('an answer', () => {
  test('that comes before a large body was read is not lost, however the other side closes', async () => {
    const { client } = await start((socket) => {
      socket.pause()
      socket.write('HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlong')
      socket.destroySoon()
    })
    const body = Buffer.alloc(5_000_000)
    for (let n = 0; n < 40; n++) {
      const { socket, ended } = client()
      socket.write(head('POST / HTTP/1.1', `content-length: ${body.length}`, CLOSE))
      socket.write(body)
      const text = await ended
      expect(text).toMatch(/^HTTP\/1\.1 413 Too Large\r\n/)
      expect(text).toMatch(/long/)
    }
  })

  test('is announced by 103, and has no body where it can have none', async () => {
    const { ask } = await start((socket, heard) => {
      if (heard().startsWith('HEAD'))
        return socket.end(`${OK}content-length: 9\r\nconnection: close\r\n\r\n`)
      if (heard().includes(' /304 '))
        return socket.end('HTTP/1.1 304 Not Modified\r\netag: a\r\nconnection: close\r\n\r\n')
      if (heard().includes(' /204 '))
        return socket.end('HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n')
      socket.write('HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n')
      return socket.end(`${OK}content-length: 2\r\nconnection: close\r\n\r\nok`)
    })
    const hinted = await ask('GET / HTTP/1.1', CLOSE)
    expect(hinted).toMatch(
      /^HTTP\/1\.1 103 .*\r\nlink: <\/a\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200/,
    )
    expect(await ask('GET / HTTP/1.0', CLOSE)).toMatch(/^HTTP\/1\.1 200/)
    expect(await ask('HEAD / HTTP/1.1', CLOSE)).toMatch(/content-length: 9\r\n(.*\r\n)*\r\n$/)
    expect(await ask('GET /304 HTTP/1.1', CLOSE)).toMatch(/^HTTP\/1\.1 304 (.*\r\n)+\r\n$/)
    expect(await ask('GET /204 HTTP/1.1', CLOSE)).toMatch(/^HTTP\/1\.1 204 (.*\r\n)+\r\n$/)
  })

  test('that breaks off is not made to look whole, and nothing of edges is in its trailers', async () => {
    const { ask } = await start((socket, heard) => {
      if (heard().includes(' /cut '))
        return socket.end(`${OK}content-length: 9\r\nconnection: close\r\n\r\nhalf`)
      return socket.end(
        `${OK}transfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\nfly-replay: app=x\r\nroost-answered: y\r\n\r\n`,
      )
    })
    expect(await ask('GET /cut HTTP/1.1', CLOSE)).toMatch(/content-length: 9\r\n(.*\r\n)*\r\nhalf$/)
    const trailed = await ask('GET / HTTP/1.1', CLOSE)
    expect(trailed).toMatch(/\r\na\r\n0\r\nx-sum: 1\r\n\r\n$/)
  })

  test('with another protocol that nobody asked for, or a reason that Node would not say, does not hang', async () => {
    const { ask } = await start((socket, heard) =>
      heard().includes(' /101 ')
        ? socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
          )
        : socket.end('HTTP/1.1 200 so\x01so\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok'),
    )
    expect(await ask('GET /101 HTTP/1.1', CLOSE)).toMatch(/^HTTP\/1\.1 502 /)
    expect(await ask('GET / HTTP/1.1', CLOSE)).toMatch(/^HTTP\/1\.1 (200 soso|502 )/)
  })
})

describe('a request', () => {
  test('that would like another protocol and has a body is sent on with it, as any other', async () => {
    const { client } = await start((socket, heard) => {
      const finish = () => {
        if (!heard().endsWith('hello') && !heard().endsWith('0\r\n\r\n')) return
        socket.end(`${OK}content-length: 2\r\nconnection: close\r\n\r\nok`)
      }
      socket.on('data', finish)
      finish()
    })
    for (const body of [
      ['content-length: 5', 'hello'],
      ['transfer-encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'],
    ] as const) {
      const { socket, ended } = client()
      const upgrade = ['connection: close, upgrade', 'upgrade: h2c']
      socket.write(head('POST / HTTP/1.1', ...upgrade, body[0]))
      socket.write(body[1])
      expect(await ended).toMatch(/^HTTP\/1\.1 200 OK(.*\r\n)+\r\n.*ok/s)
    }
    const { socket, ended } = client()
    socket.write(head('POST / HTTP/1.1', 'content-length: 5', 'expect: 100-continue', CLOSE))
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 100 /)
    socket.write('hello')
    expect(await ended).toMatch(/HTTP\/1\.1 200 OK/)
  })

  test('that Node does not understand is refused with a word', async () => {
    const { ask } = await start((socket) => socket.destroy())
    expect(await ask('FROBNICATE / HTTP/1.1', CLOSE)).toMatch(
      /^HTTP\/1\.1 400 .*The edge can not send such a request on\.\n$/s,
    )
  })

  test('whose client is gone asks the edge nothing any more', async () => {
    let take: (socket: Socket) => void = () => {}
    const asked = new Promise<Socket>((resolve) => {
      take = resolve
    })
    const { client } = await start(
      (socket) =>
        socket.end(
          `${OK}fly-replay: region=iad;timeout=60s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
        ),
      (socket) => take(socket.resume()),
    )
    const { socket } = client()
    socket.write(head('GET / HTTP/1.1'))
    const question = await asked
    const ended = once(question, 'close')
    question.on('end', () => question.destroy())
    socket.destroy()
    await ended
  })

  test('is sent on as often as may be, and to nobody for ever', async () => {
    let deliveries = 0
    const found: ReplayAnswer = {
      ...{ kind: 'to', slot: 's1', server: '00000000000002.a0', machine: '00000000000002' },
      ...{ fromRegion: 'ams', sessions: [] },
    }
    const { ask } = await start(
      (socket) => {
        deliveries += 1
        socket.end(`${OK}fly-replay: app=b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`)
      },
      (socket) => socket.once('data', () => socket.end(`${JSON.stringify(found)}\n`)),
    )
    expect(await ask('GET / HTTP/1.1', CLOSE)).toMatch(/^HTTP\/1\.1 502 .*more than 3 times/s)
    expect(deliveries).toBe(4)
  })
})

describe('a connection that goes on with another protocol', () => {
  test('loses nothing of what is said last, in headers of any letters', async () => {
    const last = Buffer.alloc(3_000_000, 'z')
    const { client, replayer } = await start((socket) => {
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\nx-name: \xe9\r\n\r\n',
        'latin1',
      )
      socket.end(last)
    })
    const { socket, ended } = client()
    socket.write(head('GET / HTTP/1.1', 'connection: upgrade', 'upgrade: x'))
    socket.once('end', () => socket.end())
    const text = await ended
    expect(text).toContain('x-name: \xe9\r\n')
    expect(text.length - text.indexOf('\r\n\r\n') - 4).toBe(last.length)
    await expect.poll(() => replayer.active()).toBe(0)
  })

  test('and is refused is not kept open by what its client had to say', async () => {
    const { client, replayer } = await start((socket) =>
      socket.end(`${OK}content-length: 2\r\nconnection: close\r\n\r\nno`),
    )
    const { socket, ended } = client()
    socket.write(
      `${head('GET / HTTP/1.1', 'connection: upgrade', 'upgrade: x')}more than asked for`,
    )
    expect(await ended).toMatch(/^HTTP\/1\.1 200 .*no/s)
    await expect.poll(() => replayer.active()).toBe(0)
  })
})
