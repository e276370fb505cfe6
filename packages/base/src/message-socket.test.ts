import { connect, type Socket } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'
import {
  acceptSocket,
  createHttpListener,
  type HttpListener,
  wantsSocket,
} from './http-listener.ts'
import { silentLogger } from './log.ts'
import { type MessageSocket, openMessageSocket } from './message-socket.ts'
import { PlatformError } from './platform-error.ts'

const open: { listener: HttpListener | null; refused: Socket | null } = {
  listener: null,
  refused: null,
}
afterEach(async () => {
  await open.listener?.close(100)
})

async function listen(serve: (socket: MessageSocket) => Promise<void>): Promise<string> {
  const errors = { forbidden: { status: 403 }, invalid: { status: 400 } }
  const listener = createHttpListener({ log: silentLogger, errors })
  open.listener = listener
  listener.app.get('/socket', async (_request, reply) => {
    reply.header('x-version', '1')
    await serve(await acceptSocket(reply))
    return reply
  })
  listener.app.get('/refused', async (request) => {
    open.refused = request.raw.socket
    throw new PlatformError('forbidden', 'this token may not')
  })
  listener.app.get('/plain', async (request) => ({ wanted: wantsSocket(request) }))
  const [at] = await listener.listen([{ address: '127.0.0.1', port: 0 }])
  return `http://127.0.0.1:${at?.port}`
}

const echo = async (socket: MessageSocket) => {
  for await (const message of socket.messages) await socket.send(message)
}

test('messages go both ways, in order, and end when either says goodbye', async () => {
  const url = await listen(echo)
  const socket = await openMessageSocket(`${url}/socket`)
  const sent = Array.from({ length: 40 }, (_, n) => Buffer.alloc(100_000, n))
  const sending = (async () => {
    for (const message of sent) await socket.send(message)
  })()
  let count = 0
  for await (const message of socket.messages) {
    expect(Buffer.from(message).equals(sent[count] as Buffer)).toBe(true)
    if (++count === sent.length) break
  }
  await sending
  socket.close()
  await vi.waitFor(() => expect(socket.closed.aborted).toBe(true))
  await expect(socket.send(Buffer.from('late'))).rejects.toMatchObject({ code: 'unavailable' })
})

test('a refusal is an ordinary answer with its code; nobody there is unavailable', async () => {
  const url = await listen(echo)
  await expect(openMessageSocket(`${url}/refused`)).rejects.toMatchObject({
    name: 'SocketRefused',
    status: 403,
    code: 'forbidden',
    message: 'this token may not',
  })
  await expect(openMessageSocket(`${url}/nowhere`)).rejects.toMatchObject({ code: 'not_found' })
  await expect(openMessageSocket('http://127.0.0.1:1/x')).rejects.toMatchObject({
    code: 'unavailable',
  })
  expect(await (await fetch(`${url}/plain`)).json()).toEqual({ wanted: false })
  expect((await fetch(`${url}/socket`)).status).toBe(400)
})

test('who asks for another protocol gets an answer in this one', async () => {
  const url = new URL(await listen(echo))
  const socket = connect(Number(url.port), '127.0.0.1')
  socket.end(
    'GET /plain HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n',
  )
  let text = ''
  for await (const chunk of socket) text += chunk
  expect(text).toMatch(/^HTTP\/1.1 200 [\s\S]*{"wanted":false}/)
})

test('a listener that closes says goodbye to its sockets', async () => {
  const url = await listen(echo)
  const socket = await openMessageSocket(`${url}/socket`)
  const reading = (async () => {
    for await (const _ of socket.messages);
  })()
  await open.listener?.close(100)
  await reading
  expect(socket.closed.reason).toMatchObject({ message: 'the server is going away' })
})

test('who asked for a WebSocket, was refused and never hangs up keeps no connection', async () => {
  const url = new URL(await listen(echo))
  const socket = connect({ port: Number(url.port), host: '127.0.0.1', allowHalfOpen: true })
  socket.write(
    'GET /refused HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  )
  let text = ''
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) text += chunk
  expect(text).toMatch(/^HTTP\/1.1 403 [\s\S]*this token may not/)
  await expect.poll(() => open.refused?.destroyed).toBe(true)
  socket.destroy()
})
