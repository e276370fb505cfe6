import { createRequire } from 'node:module'

/**
 * Raw Ethernet sockets, which Node has none of, by calling libc. Everything here blocks nobody but the thread that calls:
 * sockets are non-blocking, `wait` is ppoll with a bound.
 *
 * PACKET_VNET_HDR puts ten bytes before each frame that say whether its checksum is still to be computed and how a frame
 * of up to 64 KB is to be cut: handed on as they came, big frames cross in one piece and no checksum is ever wrong.
 */
export const FRAME_BYTES_MAX = 10 + 65_536 + 64
/** The Ethernet header begins here. */
export const FRAME_OFFSET = 10

const AF_PACKET = 17
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000
const ETH_P_ALL_BIG_ENDIAN = 0x0300
const SOL_SOCKET = 1
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const SOL_PACKET = 263
const PACKET_VNET_HDR = 15
const PACKET_IGNORE_OUTGOING = 23
const MSG_DONTWAIT = 0x40
const EFD_NONBLOCK_CLOEXEC = 0x800 | 0x80000
const EINTR = 4
const SOCKET_BUFFER_BYTES = 8 * 1024 * 1024

type Call = (...args: unknown[]) => number
interface Koffi {
  load(path: string | null): { func(definition: string): Call }
  errno(): number
}

export interface PacketSockets {
  /** Opens a socket on an interface of this network namespace. */
  open(device: string): number
  /** Bytes of the frame that was read into `into`, 0 when there is none, negative errno. */
  receive(socket: number, into: Buffer): number
  /** 0, or a negative errno: the frame is lost then. */
  send(socket: number, frame: Buffer, length: number): number
  /** Something that wakes `wait` from another thread. */
  bell(): number
  ring(bell: number): void
  silence(bell: number): void
  /** Waits until one of the descriptors can be read, at most `ms` (fractions count). */
  wait(set: PollSet, ms: number): void
}

/** struct pollfd[], filled once. */
export interface PollSet {
  readonly memory: Buffer
  readonly count: number
}

export function pollSet(descriptors: readonly number[]): PollSet {
  const memory = Buffer.alloc(descriptors.length * 8)
  descriptors.forEach((descriptor, n) => {
    memory.writeInt32LE(descriptor, n * 8)
    memory.writeInt16LE(1, n * 8 + 4)
  })
  return { memory, count: descriptors.length }
}

export function isReady(set: PollSet, n: number): boolean {
  return set.memory.readInt16LE(n * 8 + 6) !== 0
}

export function openPacketSockets(): PacketSockets {
  // Loaded here and not at the top: nobody but the playground's WAN should pay for a library that calls libc.
  const koffi = createRequire(import.meta.url)('koffi') as Koffi
  const libc = koffi.load(null)
  const socket = libc.func('int socket(int domain, int type, int protocol)')
  const bind = libc.func('int bind(int fd, void *address, uint32_t length)')
  const setsockopt = libc.func(
    'int setsockopt(int fd, int level, int name, void *value, uint32_t length)',
  )
  const nameToIndex = libc.func('uint32_t if_nametoindex(str name)')
  const recv = libc.func('int64_t recv(int fd, void *buffer, uint64_t length, int flags)')
  const send = libc.func('int64_t send(int fd, void *buffer, uint64_t length, int flags)')
  const ppoll = libc.func('int ppoll(void *fds, uint64_t count, void *timeout, void *mask)')
  const eventfd = libc.func('int eventfd(uint32_t value, int flags)')
  const read = libc.func('int64_t read(int fd, void *buffer, uint64_t length)')
  const write = libc.func('int64_t write(int fd, void *buffer, uint64_t length)')

  const timeout = Buffer.alloc(16)
  const eight = Buffer.alloc(8)
  const one = Buffer.alloc(8)
  one.writeBigUInt64LE(1n)
  const must = (what: string, result: number): number => {
    if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`)
    return result
  }
  const option = (fd: number, level: number, name: number, value: number): number => {
    const int = Buffer.alloc(4)
    int.writeInt32LE(value)
    return setsockopt(fd, level, name, int, 4)
  }

  return {
    open(device) {
      const index = nameToIndex(device)
      if (index === 0) throw new Error(`no network device ${device}`)
      const fd = must('open a packet socket', socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0))
      must('turn on frame metadata', option(fd, SOL_PACKET, PACKET_VNET_HDR, 1))
      must('ignore own frames', option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1))
      // Smaller buffers only lose more frames under load, so refusal is no reason to stop.
      option(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)
      option(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES)
      const address = Buffer.alloc(20)
      address.writeUInt16LE(AF_PACKET, 0)
      address.writeUInt16LE(ETH_P_ALL_BIG_ENDIAN, 2)
      address.writeInt32LE(index, 4)
      must(`bind to ${device}`, bind(fd, address, 20))
      return fd
    },
    receive(fd, into) {
      const length = Number(recv(fd, into, into.length, MSG_DONTWAIT))
      if (length >= 0) return length
      const errno = koffi.errno()
      return errno === 11 || errno === EINTR ? 0 : -errno
    },
    send(fd, frame, length) {
      return Number(send(fd, frame, length, MSG_DONTWAIT)) < 0 ? -koffi.errno() : 0
    },
    bell: () => must('make an eventfd', eventfd(0, EFD_NONBLOCK_CLOEXEC)),
    ring: (bell) => void write(bell, one, 8),
    silence: (bell) => void read(bell, eight, 8),
    wait(set, ms) {
      const ns = Math.max(0, Math.round(ms * 1e6))
      timeout.writeBigInt64LE(BigInt(Math.floor(ns / 1e9)), 0)
      timeout.writeBigInt64LE(BigInt(ns % 1e9), 8)
      ppoll(set.memory, set.count, timeout, null)
    },
  }
}
