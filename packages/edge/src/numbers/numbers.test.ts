import type { MachineId, RegionCode } from '@roost/core'
import { expect, test } from 'vitest'
import type { ObservedEntry } from '../haproxy/observed-proxy.ts'
import { parseConnectionLine } from './log-line.ts'
import { createNumbers } from './numbers.ts'

const ONE = '00000000000001' as MachineId

function setUp() {
  const places = new Map([[ONE as string, { app: 'mail', region: 'iad' }]])
  const numbers = createNumbers({
    region: 'ams' as RegionCode,
    host: 'ams-1',
    placeOf: (machine) => places.get(machine) ?? null,
    appOf: () => null,
    appOfSlot: (slot) => (slot === 't0' ? 'mail' : null),
    now: () => 1_000_000,
  })
  const entry = (total: number, sessions: number): ObservedEntry => ({
    name: `${ONE}.a0`,
    entry: { machine: ONE, role: 'active', number: 0 },
    endpoint: '10.0.0.1:9000',
    maxConnections: 0,
    ...{ maint: false, up: true, checking: true, sessions, sessionsTotal: total },
    secondsInState: 1,
  })
  const look = (slot: string, total: number, sessions = 0) =>
    numbers.looked(new Map([[slot, [entry(total, sessions)]]]))
  const end = (text: string) => {
    const line = parseConnectionLine(text)
    if (line === null) throw new Error(`no line: ${text}`)
    numbers.ended(line)
  }
  /** Of one series, whatever its other labels; null: there is none. */
  const value = async (series: string) => {
    const page = await numbers.page()
    const found = page.split('\n').find((line) => line.startsWith(series))
    return found === undefined ? null : Number(found.split(' ').at(-1))
  }
  return { places, look, end, value, numbers }
}

test('connections to a machine are counted as they come and as they end, over a worker that starts anew', async () => {
  const { look, end, value } = setUp()
  // What an edge before this one has counted.
  look('t0', 7)
  expect(await value('fly_app_tcp_connects_count')).toBeNull()
  look('t0', 10, 3)
  expect(await value('fly_app_tcp_connects_count{app="mail",region="iad"')).toBe(3)
  expect(await value('fly_edge_tcp_connects_count{app="mail",region="ams"')).toBe(3)
  expect(
    await value(`fly_app_concurrency{app="mail",region="iad",host="ams-1",instance="${ONE}"`),
  ).toBe(3)
  expect(await value('fly_app_tcp_disconnects_count')).toBeNull()
  end(`tcp edge ${ONE}.a0 100 2000 0 4 65000 t0`)
  end(`tcp edge ${ONE}.a0 1 2 0 0 50 t0`)
  expect(await value('fly_app_tcp_disconnects_count{app="mail"')).toBe(2)
  expect(await value('fly_edge_tcp_disconnects_count{app="mail"')).toBe(2)
  expect(await value('fly_edge_data_in{app="mail"')).toBe(101)
  expect(await value('fly_edge_data_out{app="mail"')).toBe(2002)
  expect(await value('roost_app_tcp_data_out{app="mail"')).toBe(2002)
  expect(await value('roost_app_tcp_connection_seconds_bucket{le="60"')).toBe(1)
  expect(await value('roost_app_tcp_connection_seconds_count')).toBe(2)
  expect(await value('fly_app_connect_time_seconds_count')).toBe(1)
  look('t0', 2)
  expect(await value('fly_app_tcp_connects_count')).toBe(5)
})

test('one that was held is one connection to its client and to its machine; one that nobody took is none of a machine', async () => {
  const { look, end, value } = setUp()
  look('t0', 0)
  look('t0', 1)
  end(`tcp detour ${ONE}.a0 10 20 0 1 900 t0`)
  end('tcp edge hold.0 10 20 0 0 1000 t0')
  expect(await value('fly_edge_tcp_connects_count')).toBe(1)
  expect(await value('fly_edge_tcp_disconnects_count')).toBe(1)
  expect(await value('fly_edge_data_in')).toBe(10)
  expect(await value('fly_app_tcp_disconnects_count')).toBe(1)
  end('tcp detour <NOSRV> 0 0 -1 -1 900 t0')
  end('tcp edge hold.0 0 0 0 0 1000 t0')
  expect(await value('fly_edge_tcp_connects_count')).toBe(2)
  expect(await value('fly_edge_tcp_disconnects_count')).toBe(2)
  expect(await value('fly_app_tcp_disconnects_count')).toBe(1)
  // Of nobody.
  end('tcp edge <NOSRV> 0 0 -1 -1 0 -')
  expect(await value('fly_edge_tcp_connects_count')).toBe(2)
})

test('requests are no connections, and a machine that went leaves no numbers', async () => {
  const { look, end, value, numbers, places } = setUp()
  look('s0', 0)
  look('s0', 50)
  expect(await value('fly_app_tcp_connects_count')).toBeNull()
  end(`tcp edge ${ONE}.a0 1 2 0 1 50 t0`)
  places.clear()
  numbers.sweep()
  for (const name of ['fly_app_tcp_disconnects_count', 'roost_app_tcp_connection_seconds_count'])
    expect(await value(name)).toBeNull()
  expect(await value('fly_edge_tcp_disconnects_count')).toBe(1)
})
