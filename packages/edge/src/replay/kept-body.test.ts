import { once } from 'node:events'
import { createServer, type IncomingMessage, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { REPLAY_BODY_BYTES_MAX } from '@roost/core'
import { afterEach, expect, test } from 'vitest'
import { createBodyRooms } from './body-room.ts'
import { keepBody } from './kept-body.ts'

function later<T>() {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((done) => {
    resolve = done
  })
  return { promise, resolve: (value: T) => resolve(value) }
}
const closers: (() => void)[] = []
/** Of one app, that many bytes. */
const roomWith = (bytes: number) => createBodyRooms(4 * bytes)('shop')
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

async function listen(take: (asked: IncomingMessage) => void): Promise<number> {
  const server = createServer((asked, answer) => {
    take(asked)
    asked.on('end', () => answer.end())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

/** A body that a client sends in pieces, and a machine that gets it. */
async function open() {
  const source = later<IncomingMessage>()
  const port = await listen((asked) => source.resolve(asked))
  const client = request({ port, method: 'POST', headers: { 'transfer-encoding': 'chunked' } })
  client.on('error', () => {})
  client.flushHeaders()
  const target = async () => {
    const got = later<Buffer>()
    const to = await listen((asked) => {
      const chunks: Buffer[] = []
      asked.on('data', (chunk: Buffer) => chunks.push(chunk))
      asked.on('end', () => got.resolve(Buffer.concat(chunks)))
    })
    const headers = { 'transfer-encoding': 'chunked' }
    const made = request({ port: to, method: 'POST', headers })
    made.on('error', () => {})
    return { made, got: got.promise }
  }
  return { client, source: await source.promise, target }
}

test('a body passes through as it comes, and can be had again, also before its end', async () => {
  const { client, source, target } = await open()
  const room = roomWith(100)
  const body = keepBody(source, room)
  const [first, second, third] = [await target(), await target(), await target()]
  client.write('one ')
  expect(body.sendTo(first.made)).toBe(true)
  client.write('two ')
  expect(body.sendTo(second.made)).toBe(true)
  client.end('three')
  expect(await body.whole()).toBe('whole')
  expect(body.sendTo(third.made)).toBe(true)
  expect(String(await third.got)).toBe('one two three')
  expect(room.take(90)).toBe(false)
  body.release()
  body.release()
  expect(room.take(100)).toBe(true)
  expect(room.take(1)).toBe(false)
  expect(body.sendTo(third.made)).toBe(false)
})

test('one that is too large, or for which there is no room, is had once', async () => {
  for (const [bytes, room, why] of [
    [REPLAY_BODY_BYTES_MAX + 1, REPLAY_BODY_BYTES_MAX * 2, 'too-large'],
    [1000, 999, 'crowded'],
  ] as const) {
    const { client, source, target } = await open()
    const left = roomWith(room)
    const body = keepBody(source, left)
    const [first, second] = [await target(), await target()]
    expect(body.sendTo(first.made)).toBe(true)
    client.end(Buffer.alloc(bytes, 7))
    expect(await first.got).toEqual(Buffer.alloc(bytes, 7))
    expect(await body.whole()).toBe(why)
    expect(body.sendTo(second.made)).toBe(false)
    expect(left.take(room)).toBe(true)
    second.made.destroy()
  }
})

test('pieces of a byte cost no more than one piece', async () => {
  const { client, source, target } = await open()
  const body = keepBody(source, roomWith(32_768))
  const first = await target()
  body.sendTo(first.made)
  for (let n = 0; n < 16_384; n++) client.write('x')
  client.end()
  expect(await body.whole()).toBe('whole')
})

test('whoever waits for the end of one whose client goes is told so', async () => {
  const { client, source, target } = await open()
  const body = keepBody(source, roomWith(100))
  const first = await target()
  body.sendTo(first.made)
  client.write('one')
  const whole = body.whole()
  client.destroy()
  await expect(whole).rejects.toThrow()
  first.made.destroy()
})
