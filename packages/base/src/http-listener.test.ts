import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { FastifyReply } from 'fastify'
import { afterEach, expect, test } from 'vitest'
import { acceptSocket, createHttpListener, type HttpListener, sendLines } from './http-listener.ts'
import { silentLogger } from './log.ts'

const open: { listener: HttpListener | null; clients: Socket[] } = { listener: null, clients: [] }
afterEach(async () => {
  for (const client of open.clients.splice(0)) client.destroy()
  await open.listener?.close(100)
})

const UPGRADE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'

async function listen(answer: (reply: FastifyReply) => Promise<unknown>): Promise<number> {
  const listener = createHttpListener({
    log: silentLogger,
    errors: { unavailable: { status: 503 } },
  })
  open.listener = listener
  listener.app.get('/', async (_request, reply) => {
    await answer(reply)
    return reply
  })
  const [at] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
  return at?.port ?? 0
}

function ask(port: number, headers = ''): Socket {
  const client = connect(port, '127.0.0.1')
  open.clients.push(client)
  client.write(`GET / HTTP/1.1\r\nHost: x\r\n${headers}\r\n`)
  return client
}

/** A handler that is busy until its client has left, and what came of it then. */
async function answerLate<T>(headers: string, answer: (reply: FastifyReply) => Promise<T>) {
  let client: Socket | null = null
  return new Promise<T>((resolve, reject) => {
    const port = listen(async (reply) => {
      const left = once(reply.raw, 'close')
      client?.resetAndDestroy()
      await left
      await answer(reply).then(resolve, reject)
    })
    void port.then((port) => {
      client = ask(port, headers)
    })
  })
}

test('a line stream whose client left before its first line ends at once', async () => {
  const aborted: boolean[] = []
  await answerLate('', (reply) =>
    sendLines(reply, async function* (signal) {
      aborted.push(signal.aborted)
      yield 'nobody reads this'
    }),
  )
  expect(aborted).toEqual([true])
})

test('a WebSocket whose client left before it was accepted is refused', async () => {
  await expect(answerLate(UPGRADE, acceptSocket)).rejects.toMatchObject({
    code: 'unavailable',
    message: 'the client left',
  })
})

test('a quiet line stream writes empty lines where it is asked to, and only between lines', async () => {
  const gone: boolean[] = []
  const port = await listen((reply) =>
    sendLines(
      reply,
      async function* (signal) {
        yield { n: 1 }
        await once(signal, 'abort')
        gone.push(true)
      },
      { signMs: 20 },
    ),
  )
  const client = ask(port)
  let text = ''
  for await (const chunk of client) {
    text += chunk
    if (/\{"n":1\}\n\r\n(1\r\n\n\r\n){3}/.test(text)) break
  }
  await expect.poll(() => gone).toEqual([true])
})
