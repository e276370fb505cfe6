import { expect, test } from 'vitest'
import { type FrameCarrier, type FrameStream, frameStreams } from './frame-streams.ts'
import { decodeFrame, encodeFrame, type Frame, WINDOW_BYTES } from './frames.ts'

/** Two carriers that hand each other what they send. */
function pair(): [FrameCarrier & { sent: number }, FrameCarrier & { sent: number }] {
  const make = () => {
    const waiting: Uint8Array[] = []
    const state = { wake: () => {}, over: false }
    return {
      push: (message: Uint8Array) => {
        waiting.push(message)
        state.wake()
      },
      end: () => {
        state.over = true
        state.wake()
      },
      async *messages() {
        for (;;) {
          const next = waiting.shift()
          if (next) yield next
          else if (state.over) return
          else
            await new Promise<void>((resolve) => {
              state.wake = resolve
            })
        }
      },
    }
  }
  const [a, b] = [make(), make()]
  const carrier = (mine: typeof a, other: typeof a) => ({
    sent: 0,
    messages: mine.messages(),
    async send(this: { sent: number }, message: Uint8Array) {
      this.sent += message.length
      other.push(message)
    },
    close: () => {
      mine.end()
      other.end()
    },
  })
  return [carrier(a, b), carrier(b, a)]
}

const bytesOf = async (stream: FrameStream) => {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream.bytes) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test.each<Frame>([
  { kind: 'data', stream: 1, bytes: new Uint8Array([1, 2, 3]) },
  { kind: 'data', stream: 4_000_000_000, bytes: new Uint8Array(0) },
  { kind: 'end', stream: 2 },
  { kind: 'window', stream: 7, bytes: 262_144 },
  { kind: 'open', stream: 9 },
  { kind: 'reset', stream: 3, why: 'zu spät' },
  { kind: 'control', value: { exit: { code: 7 } } },
])('a frame comes out as it went in: $kind', (frame) => {
  expect(decodeFrame(encodeFrame(frame))).toEqual(frame)
})

test.each([[[]], [[0, 0, 0, 0]], [[6, 0, 0, 0, 0]], [[2, 0, 0, 0, 0, 1]], [[1, 0, 0, 0, 0, 1]]])(
  'what is no frame is refused: %j',
  (bytes) => {
    expect(decodeFrame(new Uint8Array(bytes))).toBeNull()
  },
)

test('much goes through a small window, and what nobody reads is not sent', async () => {
  const [near, far] = pair()
  const [client, server] = [frameStreams(near), frameStreams(far)]
  const sent = Buffer.alloc(3_000_000, 'roost')
  const [from, to] = [client.stream(0), server.stream(0)]
  client.run({ control() {} }).catch(() => {})
  server.run({ control() {} }).catch(() => {})
  const writing = from.write(sent).then(() => from.end())
  await new Promise((resolve) => setImmediate(resolve))
  expect(near.sent).toBeLessThan(WINDOW_BYTES + 1000)
  const other = client.stream(1)
  const there = bytesOf(server.stream(1))
  await other.write(Buffer.from('not held up'))
  await other.end()
  expect((await there).toString()).toBe('not held up')
  expect((await bytesOf(to)).equals(sent)).toBe(true)
  await writing
})

test('a stream ends in one direction, is reset in both, and all end with the session', async () => {
  const [near, far] = pair()
  const [client, server] = [frameStreams(near), frameStreams(far)]
  const heard: FrameStream[] = []
  client.run({ control() {} }).catch(() => {})
  const over = server.run({ control() {}, opened: (stream) => heard.push(stream) })
  over.catch(() => {})
  const [one, two, three] = [client.open(1), client.open(2), client.open(3)]
  await one.write(Buffer.from('question'))
  await one.end()
  expect((await bytesOf(heard[0] as FrameStream)).toString()).toBe('question')
  await heard[0]?.write(Buffer.from('answer'))
  await heard[0]?.end()
  expect((await bytesOf(one)).toString()).toBe('answer')
  heard[1]?.reset('refused')
  await expect(bytesOf(two)).rejects.toThrow('refused')
  server.close()
  await expect(bytesOf(three)).rejects.toThrow('over')
})

test('who sends more than there is room for ends the session', async () => {
  const [near, far] = pair()
  const server = frameStreams(far)
  server.stream(0)
  const running = server.run({ control() {} })
  const bytes = new Uint8Array(65_536)
  for (let n = 0; n < 5; n++) await near.send(encodeFrame({ kind: 'data', stream: 0, bytes }))
  await expect(running).rejects.toThrow('more came')
})

test('a stream that nobody asked for ends the session', async () => {
  const [near, far] = pair()
  const running = frameStreams(far).run({ control() {} })
  await near.send(encodeFrame({ kind: 'open', stream: 5 }))
  await expect(running).rejects.toThrow('can not be')
})
