import { decodeFrame, encodeFrame, type Frame } from '@roost/api'
import type { MessageSocket } from '@roost/base'
import { expect, test, vi } from 'vitest'
import { relayConnections } from './relay-port.ts'

/** One end of a socket: `say` is what its other end sends, `heard` what came there. */
function trialSocket() {
  const closed = new AbortController()
  const waiting: Uint8Array[] = []
  const state = { wake: () => {}, read: 0 }
  const heard: (Frame | null)[] = []
  async function* read() {
    for (;;) {
      const next = waiting.shift()
      if (next !== undefined) {
        state.read++
        yield next
      } else if (closed.signal.aborted) return
      else
        await new Promise<void>((resolve) => {
          state.wake = resolve
        })
    }
  }
  const socket: MessageSocket = {
    messages: read(),
    closed: closed.signal,
    async send(message) {
      if (closed.signal.aborted) throw new Error('it is closed')
      heard.push(decodeFrame(message))
    },
    close() {
      closed.abort()
      state.wake()
    },
  }
  const say = (...frames: Frame[]) => {
    waiting.push(...frames.map(encodeFrame))
    state.wake()
  }
  return { socket, say, heard, state }
}

const open = (stream: number): Frame => ({ kind: 'open', stream })
const end = (stream: number): Frame => ({ kind: 'end', stream })
const data = (stream: number, text: string): Frame => ({
  kind: 'data',
  stream,
  bytes: Uint8Array.from(Buffer.from(text)),
})

function later() {
  let resolve = () => {}
  let reject = (_: Error) => {}
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}

/** A proxy whose connections go to one machine after the other; `hosts` answer when a test says so. */
function trialProxy(...machines: string[]) {
  const client = trialSocket()
  const hosts = new Map(machines.map((name) => [name, { ...trialSocket(), ...later() }]))
  const opened: string[] = []
  const host = (name: string) => {
    const found = hosts.get(name)
    if (found === undefined) throw new Error(`no host ${name}`)
    return found
  }
  const ended = relayConnections(
    client.socket,
    client.socket.messages[Symbol.asyncIterator](),
    async () => {
      const machine = machines.shift() ?? ''
      return {
        machine,
        open: async () => {
          opened.push(machine)
          await host(machine).promise
          return host(machine).socket
        },
      }
    },
  )
  return { client, host, opened, ended }
}

test('a host that does not answer holds up its own connections, whose frames keep their order', async () => {
  const { client, host, ended } = trialProxy('dead', 'alive')
  host('alive').resolve()
  client.say(open(1), data(1, 'one'), open(2), data(2, 'two'), end(1))
  await vi.waitFor(() => expect(host('alive').heard).toEqual([open(2), data(2, 'two')]))
  host('alive').say(data(2, 'answer'))
  await vi.waitFor(() => expect(client.heard).toEqual([data(2, 'answer')]))
  expect(host('dead').heard).toEqual([])

  host('dead').resolve()
  await vi.waitFor(() => expect(host('dead').heard).toEqual([open(1), data(1, 'one'), end(1)]))
  client.socket.close()
  expect(await ended).toMatchObject({ connections: 2, bytesIn: 6, bytesOut: 6 })
  for (const name of ['dead', 'alive']) expect(host(name).socket.closed.aborted).toBe(true)
})

test('a connection that can not be made is told why, and what waited for it goes nowhere', async () => {
  const { client, host, ended } = trialProxy('dead', 'alive')
  host('alive').resolve()
  client.say(open(1), data(1, 'one'))
  host('dead').reject(new Error('it does not answer'))
  await vi.waitFor(() =>
    expect(client.heard).toEqual([{ kind: 'reset', stream: 1, why: 'it does not answer' }]),
  )
  client.say(open(2))
  await vi.waitFor(() => expect(host('alive').heard).toEqual([open(2)]))
  client.socket.close()
  await ended
  expect(host('dead').heard).toEqual([])
})

test('connections to one machine share a socket, also while it is being opened, until it breaks', async () => {
  const { client, host, opened, ended } = trialProxy('one', 'one', 'one')
  client.say(open(1), open(2))
  await vi.waitFor(() => expect(client.state.read).toBe(2))
  host('one').resolve()
  await vi.waitFor(() => expect(host('one').heard).toEqual([open(1), open(2)]))
  expect(opened).toEqual(['one'])

  host('one').socket.close()
  const why = 'the connection to the host of the machine broke'
  await vi.waitFor(() =>
    expect(client.heard).toEqual([1, 2].map((stream) => ({ kind: 'reset', stream, why }))),
  )
  client.say(open(3))
  await vi.waitFor(() => expect(opened).toEqual(['one', 'one']))
  client.socket.close()
  await ended
})

test('no more is read for a host that does not answer than there is room for', async () => {
  const { client, host, ended } = trialProxy('dead')
  const frame = data(1, 'x'.repeat(65_536))
  client.say(open(1), ...Array.from({ length: 1000 }, () => frame))
  await vi.waitFor(() => expect(client.state.read).toBeGreaterThan(500))
  expect(client.state.read).toBeLessThan(520)
  host('dead').resolve()
  await vi.waitFor(() => expect(host('dead').heard.length).toBe(1001))
  client.socket.close()
  expect(await ended).toMatchObject({ bytesIn: 65_536_000 })
})
