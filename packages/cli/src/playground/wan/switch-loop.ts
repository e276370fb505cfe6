import type { Link } from './links.ts'
import {
  FRAME_BYTES_MAX,
  FRAME_OFFSET,
  isReady,
  openPacketSockets,
  type PacketSockets,
  pollSet,
} from './packet-socket.ts'

/**
 * A learning switch whose ports are as far apart as it is told. A frame that must wait is copied into the queue of its ordered
 * pair; as all frames of a pair wait equally long, each queue is first in, first out, and only the heads are looked at.
 * Between frames the thread sleeps in ppoll until the next one is due: an idle network costs nothing.
 */
const QUEUE_BYTES_MAX = 16 * 1024 * 1024
const ALL_QUEUES_BYTES_MAX = 128 * 1024 * 1024
const FRAMES_PER_PORT_PER_TURN = 64
const IDLE_WAIT_MS = 1000
const ADDRESSES_MAX = 4096
const SMALL_BYTES = 2048
const SPARE_SMALL_MAX = 4096
const SPARE_BIG_MAX = 64

export interface SwitchPort {
  readonly name: string
  readonly device: string
}

export interface SwitchCounters {
  forwarded: number
  bytes: number
  /** By loss, cut or a port that is down. */
  lost: number
  /** Because a queue was full or the receiver took nothing. */
  dropped: number
  /** In queues now. */
  waitingBytes: number
}

export interface Switch {
  /** One turn: waits at most a second, moves what can be moved. */
  turn(): void
  setLinks(links: readonly (readonly Link[])[]): void
  readonly counters: SwitchCounters
}

interface Waiting {
  readonly frame: Buffer
  readonly length: number
  readonly dueMs: number
}

export function createSwitch(
  ports: readonly SwitchPort[],
  bell: number,
  onBell: () => void,
  chance: () => number,
  sockets: PacketSockets = openPacketSockets(),
): Switch {
  const descriptors = ports.map((port) => sockets.open(port.device))
  const set = pollSet([bell, ...descriptors])
  const portOf = new Map<number, number>()
  const queues = ports.map(() => ports.map(() => createQueue()))
  const busy = new Set<Queue>()
  const spare = createSpares()
  const scratch = Buffer.alloc(FRAME_BYTES_MAX)
  const counters: SwitchCounters = { forwarded: 0, bytes: 0, lost: 0, dropped: 0, waitingBytes: 0 }
  let links: readonly (readonly Link[])[] = []

  function transmit(to: number, frame: Buffer, length: number): void {
    if (sockets.send(descriptors[to] as number, frame, length) < 0) {
      counters.dropped++
      return
    }
    counters.forwarded++
    counters.bytes += length
  }

  function forward(from: number, to: number, length: number, nowMs: number): void {
    const link = links[from]?.[to]
    if (link === undefined || (link.loss > 0 && chance() < link.loss)) {
      counters.lost++
      return
    }
    const queue = queues[from]?.[to] as Queue
    // A delay that was just shortened must not let a frame overtake those that wait already.
    if (link.oneWayMs === 0 && queue.size() === 0) {
      transmit(to, scratch, length)
      return
    }
    if (
      queue.bytes() + length > QUEUE_BYTES_MAX ||
      counters.waitingBytes + length > ALL_QUEUES_BYTES_MAX
    ) {
      counters.dropped++
      return
    }
    const frame = spare.take(length)
    scratch.copy(frame, 0, 0, length)
    queue.push({ frame, length, dueMs: nowMs + link.oneWayMs })
    counters.waitingBytes += length
    busy.add(queue)
  }

  function receive(from: number, nowMs: number): void {
    const descriptor = descriptors[from] as number
    for (let n = 0; n < FRAMES_PER_PORT_PER_TURN; n++) {
      const length = sockets.receive(descriptor, scratch)
      // Errors such as "network is down" are told once and pass when the device is back.
      if (length <= 0) return
      if (length < FRAME_OFFSET + 14) continue
      const source = scratch.readUIntBE(FRAME_OFFSET + 6, 6)
      if (portOf.get(source) !== from && portOf.size < ADDRESSES_MAX) portOf.set(source, from)
      const target = scratch.readUIntBE(FRAME_OFFSET, 6)
      const to = portOf.get(target)
      if (to !== undefined) {
        if (to !== from) forward(from, to, length, nowMs)
        continue
      }
      for (let other = 0; other < ports.length; other++)
        if (other !== from) forward(from, other, length, nowMs)
    }
  }

  function deliver(nowMs: number): void {
    for (const queue of busy) {
      const to = queue.target
      for (
        let head = queue.head();
        head !== undefined && head.dueMs <= nowMs;
        head = queue.head()
      ) {
        queue.shift()
        transmit(to, head.frame, head.length)
        counters.waitingBytes -= head.length
        spare.give(head.frame)
      }
      if (queue.size() === 0) busy.delete(queue)
    }
  }
  queues.forEach((row) => {
    row.forEach((queue, to) => {
      queue.target = to
    })
  })

  return {
    counters,
    setLinks(next) {
      links = next
      // What is on its way when a link is cut never arrives; what now goes faster still keeps its order.
      queues.forEach((row, from) => {
        row.forEach((queue, to) => {
          if (links[from]?.[to]?.loss !== 1) return
          for (let head = queue.shift(); head !== undefined; head = queue.shift()) {
            counters.lost++
            counters.waitingBytes -= head.length
            spare.give(head.frame)
          }
        })
      })
    },
    turn() {
      let nextMs = performance.now() + IDLE_WAIT_MS
      for (const queue of busy) nextMs = Math.min(nextMs, queue.head()?.dueMs ?? nextMs)
      sockets.wait(set, nextMs - performance.now())
      if (isReady(set, 0)) {
        sockets.silence(bell)
        onBell()
      }
      const nowMs = performance.now()
      for (let port = 0; port < ports.length; port++)
        if (isReady(set, port + 1)) receive(port, nowMs)
      deliver(performance.now())
    },
  }
}

interface Queue {
  target: number
  push(frame: Waiting): void
  head(): Waiting | undefined
  shift(): Waiting | undefined
  size(): number
  bytes(): number
}

function createQueue(): Queue {
  let frames: (Waiting | undefined)[] = []
  let first = 0
  let bytes = 0
  return {
    target: 0,
    push(frame) {
      frames.push(frame)
      bytes += frame.length
    },
    head: () => frames[first],
    shift() {
      const frame = frames[first]
      if (frame === undefined) return undefined
      frames[first++] = undefined
      bytes -= frame.length
      if (first === frames.length) {
        frames = []
        first = 0
      } else if (first > 1024) {
        frames = frames.slice(first)
        first = 0
      }
      return frame
    },
    size: () => frames.length - first,
    bytes: () => bytes,
  }
}

/** Buffers that are used again, so that a busy network makes no garbage. Two sizes; a bounded number of each is kept. */
function createSpares() {
  const small: Buffer[] = []
  const big: Buffer[] = []
  return {
    take: (length: number): Buffer =>
      length <= SMALL_BYTES
        ? (small.pop() ?? Buffer.allocUnsafeSlow(SMALL_BYTES))
        : (big.pop() ?? Buffer.allocUnsafeSlow(FRAME_BYTES_MAX)),
    give(frame: Buffer): void {
      if (frame.length === SMALL_BYTES) {
        if (small.length < SPARE_SMALL_MAX) small.push(frame)
      } else if (big.length < SPARE_BIG_MAX) big.push(frame)
    },
  }
}
