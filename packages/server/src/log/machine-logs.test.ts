import type { PeerClient } from '@roost/base'
import type { MachineId } from '@roost/core'
import { expect, test } from 'vitest'
import { lastLines } from './machine-logs.ts'

const id = '3d8d0000000001' as MachineId
const line = (message: string) => ({
  timestamp: '2026-01-01T00:00:00.000Z',
  machine: id,
  region: 'ams',
  host: 'ams-1',
  message,
})

function agent(say: (path: string, signal: AbortSignal | undefined) => AsyncIterable<unknown>) {
  return {
    lines: (_method: string, path: string, options: { signal?: AbortSignal }) =>
      say(path, options.signal),
  } as unknown as PeerClient
}

test('the last lines of a machine are its messages', async () => {
  const asked: string[] = []
  const talks = agent(async function* (path) {
    asked.push(path)
    yield* [line('a'), {}, line('b'), line('c')]
  })
  expect(await lastLines(talks, id, 2)).toEqual(['b', 'c'])
  expect(asked).toEqual([`/agent/v1/machines/${id}/logs?lines=2&follow=false`])
})

test('a host that breaks off or does not end has told what it told', async () => {
  const breaks = agent(async function* () {
    yield line('a')
    throw new Error('gone')
  })
  expect(await lastLines(breaks, id, 5)).toEqual(['a'])
  const hangs = agent(async function* (_path, signal) {
    yield line('a')
    await new Promise((_resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason))
    })
  })
  expect(await lastLines(hangs, id, 5, 20)).toEqual(['a'])
})
