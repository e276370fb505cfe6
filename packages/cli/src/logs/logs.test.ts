import type { ApiClient } from '@roost/api'
import type { Clock } from '@roost/base'
import { describe, expect, test } from 'vitest'
import { followAccess } from './access.ts'
import { readLogs, timeOf } from './logs.ts'

const NOW = Date.parse('2026-01-31T12:00:00Z')
const at = (text: string) => timeOf(text, undefined, NOW)

test('a time is so long ago, or that time', () => {
  expect(at('30s')).toBe('2026-01-31T11:59:30.000Z')
  expect(at('10m')).toBe('2026-01-31T11:50:00.000Z')
  expect(at('2h')).toBe('2026-01-31T10:00:00.000Z')
  expect(at('3d')).toBe('2026-01-28T12:00:00.000Z')
  expect(at('2026-01-30T08:00:00+02:00')).toBe('2026-01-30T06:00:00.000Z')
  expect(at('2026-01-30')).toBe('2026-01-30T00:00:00.000Z')
})

test.each(['', 'yesterday', '10', '10x', '-5m', '99999999999999999d', '2026-13-45'])(
  'what is no time is refused: %s',
  (text) => {
    expect(() => at(text)).toThrow('such as')
  },
)

describe.each(['logs', 'access'] as const)('a follower of %s whose connection breaks', (what) => {
  const MINUTE_MS = 60_000
  const line = { timestamp: '', machine: 'm', region: 'ams', host: 'ams-1', message: 'hello' }
  class ServerUnreached extends Error {
    override readonly name = 'ServerUnreached'
  }
  type Call = 'ends' | 'breaks' | 'breaks unheard' | 'is refused' | 'is interrupted'

  /** Calls last ten minutes unless they are refused, and say something only at once. */
  async function follow(...calls: Call[]) {
    const now = { ms: 0 }
    const clock: Clock = {
      now: () => now.ms,
      sleep: async (ms) => {
        now.ms += ms
      },
    }
    const stop = new AbortController()
    const brokeAt: number[] = []
    async function* answer(): AsyncGenerator<typeof line> {
      const call = calls.shift() ?? 'is refused'
      if (call === 'is refused') throw new ServerUnreached()
      if (call !== 'breaks unheard') yield line
      now.ms += 10 * MINUTE_MS
      brokeAt.push(now.ms)
      if (call.startsWith('breaks')) throw new ServerUnreached()
      if (call === 'is interrupted') stop.abort()
    }
    const client = { appLogs: answer, appAccessLogs: answer } as unknown as ApiClient
    const run = { signal: stop.signal, warn: () => {}, clock }
    const print = () => {}
    const following =
      what === 'logs'
        ? readLogs(client, 'shop', { follow: true, lines: 100 }, print, run)
        : followAccess(client, 'shop', {}, print, run)
    const error = await following.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    return { error, awayMs: now.ms - (brokeAt.at(-1) ?? 0) }
  }

  test.each(['ends', 'breaks'] as const)(
    'goes on, however quiet it was before it %s',
    async (how) => {
      expect(await follow(how, 'is refused', 'is refused', 'is interrupted')).toMatchObject({
        error: null,
      })
    },
  )

  test('goes on as well when there had been nothing at all', async () => {
    expect((await follow('breaks unheard', 'is interrupted')).error).toBeNull()
  })

  test('gives up once the server has been away for five minutes', async () => {
    const { error, awayMs } = await follow('breaks', 'is refused')
    expect(error).toBeInstanceOf(ServerUnreached)
    expect(awayMs).toBeGreaterThan(5 * MINUTE_MS)
    expect(awayMs).toBeLessThanOrEqual(5 * MINUTE_MS + 1000)
  })

  test('is told of a server that never answered at once', async () => {
    const { error, awayMs } = await follow('is refused')
    expect([error, awayMs]).toEqual([expect.any(ServerUnreached), 0])
  })
})
