import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PlatformError, silentLogger } from '@roost/base'
import type { MachineId } from '@roost/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Runtime } from '../runtime.ts'
import { createDiskWatch } from './disk-watch.ts'
import { createReserve } from './reserve.ts'
import { createRoomyRuntime } from './roomy-runtime.ts'

const id = '00000000000001' as MachineId
const NEVER = new AbortController().signal
let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'roost-roomy-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Fails so often, as an engine would for want of room. */
function runtimeThatFails(times: number, how: () => unknown) {
  const asked = { starts: 0, full: 0 }
  const deed = async () => {
    if (asked.starts++ < times) throw how()
  }
  const runtime = { pull: deed, create: deed, start: deed, stop: deed, remove: deed }
  const reserve = createReserve(folder, silentLogger)
  const roomy = createRoomyRuntime({
    runtime: runtime as unknown as Runtime,
    disks: createDiskWatch({
      places: [{ kind: 'images', path: folder }],
      now: () => 0,
      log: silentLogger,
    }),
    reserves: [reserve],
    onFull: () => asked.full++,
  })
  return { asked, reserve, roomy }
}
const noSpace = () =>
  new PlatformError('image_unusable', 'start machine', {
    cause: new Error('mkdir: no space left on device'),
  })

test('what was held back is given piece by piece to a start, and made whole again', async () => {
  const { asked, reserve, roomy } = runtimeThatFails(3, noSpace)
  await reserve.refill()
  const whole = reserve.bytes()
  expect(whole).toBeGreaterThan(2_000_000)
  await roomy.start(id, {}, NEVER)
  expect(asked).toEqual({ starts: 4, full: 0 })
  expect(reserve.bytes()).toBe(whole - 3 * 1024 * 1024)
  await reserve.refill()
  expect(reserve.bytes()).toBe(whole)
})

test('without anything left a failure names the disk and is never for good; the collector hears of it', async () => {
  const { asked, roomy } = runtimeThatFails(100, noSpace)
  await expect(roomy.start(id, {}, NEVER)).rejects.toMatchObject({
    code: 'disk_full',
    retry: 'later',
    message: expect.stringMatching(
      /^start machine 0+1: the disk is full: \S+ has .* left; .*roost doctor$/,
    ),
  })
  expect(asked).toEqual({ starts: 1, full: 1 })
})

test('a pull takes nothing of what is held back, and other failures stay what they are', async () => {
  const { reserve, roomy } = runtimeThatFails(100, noSpace)
  await reserve.refill()
  const whole = reserve.bytes()
  const image = { repository: 'shop', digest: 'sha256:x' }
  await expect(roomy.pull(image, NEVER)).rejects.toMatchObject({ code: 'disk_full' })
  expect(reserve.bytes()).toBe(whole)
  const other = runtimeThatFails(100, () => new PlatformError('image_unusable', 'no image'))
  await expect(other.roomy.pull(image, NEVER)).rejects.toMatchObject({
    code: 'image_unusable',
    retry: 'never',
  })
})
