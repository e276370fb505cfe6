import { expect, test } from 'vitest'
import type { Assignment } from './machine.ts'
import { newRecord } from './record.ts'
import { statusOf } from './status-of.ts'

const seen = { host: 'h', now: 1_000, checks: [] } as unknown as Parameters<typeof statusOf>[2]
const assignment = {
  id: 'm',
  goal: 'started',
  generation: 2,
  configGeneration: 2,
  startGeneration: 2,
  instanceId: 'i2',
  imageDigest: 'sha256:2',
  drain: null,
  config: { image: 'a', restart: { policy: 'on-failure', max_retries: 10 }, stop_config: {} },
} as unknown as Assignment

test('restarts of the version before are not told of the one that is to start', () => {
  const record = { ...newRecord('m' as Assignment['id']), startedFor: 1, restarts: 5 }
  expect(statusOf(record, assignment, seen)).toMatchObject({ state: 'starting', restartCount: 0 })
  expect(statusOf({ ...record, startedFor: 2 }, assignment, seen).restartCount).toBe(5)
})
