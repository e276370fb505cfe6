import { expect, test } from 'vitest'
import type { Link } from './links.ts'
import { FRAME_OFFSET, type PacketSockets } from './packet-socket.ts'
import { createSwitch } from './switch-loop.ts'

/** Ports whose cables end in arrays. Descriptor n is the port opened as nth; every port is always worth a look. */
function fakeSockets() {
  const arriving: Buffer[][] = []
  const sent: { to: number; text: string; atMs: number }[] = []
  const sockets: PacketSockets = {
    open: () => arriving.push([]) - 1,
    receive(socket, into) {
      const frame = arriving[socket]?.shift()
      return frame === undefined ? 0 : frame.copy(into)
    },
    send(socket, frame, length) {
      const text = frame.toString('utf8', FRAME_OFFSET + 14, length)
      sent.push({ to: socket, text, atMs: performance.now() })
      return 0
    },
    bell: () => 99,
    ring() {},
    silence() {},
    wait(set) {
      for (let n = 1; n < set.count; n++) set.memory.writeInt16LE(1, n * 8 + 6)
    },
  }
  const frame = (from: number, to: number | 'all', text: string) => {
    const head = Buffer.alloc(FRAME_OFFSET + 14)
    head.writeUIntBE(to === 'all' ? 0xffffffffffff : 0x020000000000 + to, FRAME_OFFSET, 6)
    head.writeUIntBE(0x020000000000 + from, FRAME_OFFSET + 6, 6)
    arriving[from]?.push(Buffer.concat([head, Buffer.from(text)]))
  }
  return { sockets, sent, frame }
}

const ports = ['a', 'b', 'c'].map((name) => ({ name, device: name }))
const links = (oneWayMs: number, loss = 0): Link[][] =>
  ports.map(() => ports.map(() => ({ oneWayMs, loss })))

function makeSwitch(chance = () => 0.5) {
  const fake = fakeSockets()
  const theSwitch = createSwitch(ports, 99, () => {}, chance, fake.sockets)
  const until = (enough: () => boolean, msMax = 2000) => {
    const limitMs = performance.now() + msMax
    while (!enough() && performance.now() < limitMs) theSwitch.turn()
  }
  return { ...fake, theSwitch, until }
}

test('what is for all goes to all others, what is for one goes to that one once it is known', () => {
  const { theSwitch, sent, frame } = makeSwitch()
  theSwitch.setLinks(links(0))
  frame(1, 'all', 'hello')
  theSwitch.turn()
  expect(sent.map(({ to }) => to)).toEqual([0, 2])
  frame(0, 1, 'hello b')
  theSwitch.turn()
  expect(sent.slice(2).map(({ to, text }) => `${to} ${text}`)).toEqual(['1 hello b'])
})

test('frames arrive after their delay and in their order, also when the delay shrinks', () => {
  const { theSwitch, sent, frame, until } = makeSwitch()
  theSwitch.setLinks(links(0))
  frame(1, 'all', '')
  theSwitch.turn()
  theSwitch.setLinks(links(30))
  sent.length = 0
  const begin = performance.now()
  frame(0, 1, 'first')
  theSwitch.turn()
  theSwitch.setLinks(links(0))
  frame(0, 1, 'second')
  until(() => sent.length === 2)
  expect(sent.map(({ text }) => text)).toEqual(['first', 'second'])
  expect((sent[0]?.atMs ?? 0) - begin).toBeGreaterThanOrEqual(30)
  expect((sent[0]?.atMs ?? 0) - begin).toBeLessThan(60)
  expect(theSwitch.counters.waitingBytes).toBe(0)
})

test('a cut takes what is on its way too', () => {
  const { theSwitch, sent, frame, until } = makeSwitch()
  theSwitch.setLinks(links(20))
  frame(0, 'all', 'x')
  theSwitch.turn()
  theSwitch.setLinks(links(20, 1))
  frame(0, 'all', 'y')
  until(() => sent.length > 0, 60)
  expect(sent).toEqual([])
  expect(theSwitch.counters).toMatchObject({ lost: 4, waitingBytes: 0 })
})

test('queues are bounded: what does not fit is dropped and counted', () => {
  const { theSwitch, frame } = makeSwitch()
  theSwitch.setLinks(links(60_000))
  const big = 'x'.repeat(60_000)
  for (let n = 0; n < 300; n++) {
    frame(0, 'all', big)
    theSwitch.turn()
  }
  expect(theSwitch.counters.waitingBytes).toBeLessThanOrEqual(2 * 16 * 1024 * 1024)
  expect(theSwitch.counters.dropped).toBeGreaterThan(0)
})
