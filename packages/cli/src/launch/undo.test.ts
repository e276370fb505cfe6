import type { ApiClient } from '@roost/api'
import { systemClock } from '@roost/base'
import { expect, test } from 'vitest'
import { createMade, FAILED_MS_MAX, INTERRUPTED_MS_MAX } from './undo.ts'

/** A server far away, or with much to do. */
const ANSWERS_AFTER_MS = INTERRUPTED_MS_MAX + 200
const deleted: string[] = []
const client = {
  appStatus: async () => {
    await systemClock.sleep(ANSWERS_AFTER_MS)
    return { machines: [] }
  },
  deleteApp: async ({ params }: { params: { app: string } }) => void deleted.push(params.app),
} as unknown as ApiClient

test('a launch that failed waits for a slow server, and one that was interrupted says what is left', async () => {
  const failed = createMade(client)
  await failed.app(Promise.resolve('shop'))
  expect(await failed.undo(FAILED_MS_MAX)).toEqual([])
  expect(deleted).toEqual(['shop'])

  const interrupted = createMade(client)
  await interrupted.app(Promise.resolve('blog'))
  expect(await interrupted.undo(INTERRUPTED_MS_MAX)).toEqual([
    'roost apps destroy blog   # it is still reserved',
  ])
})
