import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { silentLogger } from '@roost/base'
import { afterEach, expect, test, vi } from 'vitest'
import { type DnsServer, serveDatagram, startDnsServer } from './dns-server.ts'

const servers: DnsServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})
async function echo(): Promise<DnsServer> {
  const server = await startDnsServer({
    address: '127.0.0.1',
    port: 0,
    answer: (message, source, transport) => {
      if (message.toString() === 'throw') throw new Error('it broke')
      return message.toString() === 'garbage'
        ? null
        : Buffer.from(`${message} ${source} ${transport}`)
    },
    log: silentLogger,
  })
  servers.push(server)
  return server
}
const framed = (text: string) => {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(text.length)
  return Buffer.concat([head, Buffer.from(text)])
}

test('over UDP garbage gets no answer and what comes after it does', async () => {
  const { port } = await echo()
  const client = createSocket('udp4')
  client.send('garbage', port, '127.0.0.1')
  client.send('throw', port, '127.0.0.1')
  client.send('hello', port, '127.0.0.1')
  const [reply] = await once(client, 'message')
  expect(String(reply)).toBe('hello 127.0.0.1 udp')
  client.close()
})

test('a packet that nothing can be sent back to ends nothing', async () => {
  const udp = createSocket('udp4')
  const asked: string[] = []
  const from = (port: number) =>
    serveDatagram(
      udp,
      (message) => {
        asked.push(String(message))
        return message
      },
      silentLogger,
      Buffer.from(`from ${port}`),
      { address: '127.0.0.1', port },
    )
  from(0)
  expect(asked).toEqual([])
  udp.close()
  // What is closed throws.
  from(53)
  expect(asked).toEqual(['from 53'])
})

test.each(['udp', 'tcp'])('where %s is taken, nothing is kept open', async (taken) => {
  const udp = createSocket('udp4')
  const tcp = createServer()
  if (taken === 'udp') udp.bind(0, '127.0.0.1')
  else tcp.listen(0, '127.0.0.1')
  await once(taken === 'udp' ? udp : tcp, 'listening')
  const { port } = (taken === 'udp' ? udp : tcp).address() as AddressInfo
  const descriptors = async () => (await readdir('/proc/self/fd')).length
  const before = await descriptors()
  const options = { address: '127.0.0.1', port, answer: () => null, log: silentLogger }
  for (let n = 0; n < 50; n++) await expect(startDnsServer(options)).rejects.toThrow('EADDRINUSE')
  expect(await descriptors()).toBeLessThan(before + 25)
  udp.close()
  tcp.close()
})

test('over TCP several questions, in whatever pieces; too long a one ends it', async () => {
  const { port } = await echo()
  const client = connect(port, '127.0.0.1')
  for (const byte of framed('one')) client.write(Buffer.from([byte]))
  client.write(framed('two'))
  let text = ''
  while (!text.includes('two 127')) text += String((await once(client, 'data'))[0])
  expect(text).toContain('one 127.0.0.1 tcp')
  client.write(Buffer.from([0xff, 0xff, 1]))
  await once(client, 'close')
})

test('over TCP one address has ten connections, which keeps no other address out', async () => {
  const { port } = await echo()
  const silent = Array.from({ length: 10 }, () => connect(port, '127.0.0.1'))
  await Promise.all(silent.map((socket) => once(socket, 'connect')))
  const answered = async (localAddress: string) => {
    const client = connect({ port, host: '127.0.0.1', localAddress })
    client.write(framed('hello'))
    const heard = await new Promise<boolean>((resolve) => {
      client.once('data', () => resolve(true))
      client.on('error', () => {})
      client.once('close', () => resolve(false))
    })
    client.destroy()
    return heard
  }
  expect(await answered('127.0.0.1')).toBe(false)
  expect(await answered('127.0.0.2')).toBe(true)
  silent.pop()?.destroy()
  const until = Date.now() + 2000
  while (!(await answered('127.0.0.1'))) expect(Date.now()).toBeLessThan(until)
  for (const socket of silent) socket.destroy()
})

test('over TCP a connection ends after ten seconds, however much it says', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const { port } = await echo()
    const client = connect(port, '127.0.0.1')
    client.write(framed('hello'))
    await once(client, 'data')
    vi.advanceTimersByTime(9999)
    client.write(framed('again'))
    await once(client, 'data')
    vi.advanceTimersByTime(1)
    await once(client, 'close', { signal: AbortSignal.timeout(2000) })
  } finally {
    vi.useRealTimers()
  }
})
