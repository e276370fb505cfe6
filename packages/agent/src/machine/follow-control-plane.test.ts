import type { RecordValues, WatchEvent } from '@roost/api'
import { createRecordCache, silentLogger, systemClock } from '@roost/base'
import type { HostId, InstanceId, MachineId, MachineStatus } from '@roost/core'
import { expect, test, vi } from 'vitest'
import type { ControlPlane } from '../control-plane.ts'
import { followControlPlane } from './follow-control-plane.ts'

const status = (sequence: number): MachineStatus => ({
  id: '00000000000001' as MachineId,
  host: 'h1' as HostId,
  state: 'started',
  generation: 1,
  instanceId: 'A' as InstanceId,
  configGeneration: 1,
  sequence,
  startedAt: 1,
  updatedAt: 1,
  exit: null,
  reason: null,
  restartCount: 0,
  checks: [],
})

/** One that says what is pushed, and breaks when told to. */
function fakeControlPlane() {
  const lines: (WatchEvent | 'break')[] = []
  let wake = () => {}
  const reported: number[] = []
  const refusing = { reports: 0 }
  const beats: number[] = []
  const controlPlane: ControlPlane = {
    async *watch(_, signal) {
      while (!signal.aborted) {
        const line = lines.shift()
        if (line === 'break') throw new Error('broke')
        if (line) yield line
        else
          await new Promise<void>((resolve) => {
            wake = resolve
            signal.addEventListener('abort', () => resolve(), { once: true })
          })
      }
    },
    async report(statuses) {
      if (refusing.reports-- > 0) throw new Error('refused')
      reported.push(...statuses.map((s) => s.sequence))
    },
    async heartbeat({ applied }) {
      beats.push(applied)
    },
    registryToken: async () => '',
  }
  const push = (...more: (WatchEvent | 'break')[]) => {
    lines.push(...more)
    wake()
  }
  return { controlPlane, push, reported, beats, refusing }
}

function link(statuses: readonly MachineStatus[] = []) {
  const fake = fakeControlPlane()
  const cache = createRecordCache<RecordValues>({ file: ':memory:', log: silentLogger })
  const onRecords = vi.fn()
  const made = followControlPlane({
    controlPlane: fake.controlPlane,
    cache,
    clock: systemClock,
    log: silentLogger,
    onRecords,
    statuses: () => statuses,
  })
  return { ...fake, cache, onRecords, link: made }
}

test('an empty cache is no news; a complete listing is, and is acknowledged in a heartbeat', async () => {
  const { link: l, push, onRecords, beats } = link()
  expect(onRecords).not.toHaveBeenCalled()
  push({ type: 'reset' }, { type: 'synced', revision: 7 })
  await vi.waitFor(() => expect(onRecords).toHaveBeenCalledTimes(1))
  await vi.waitFor(() => expect(beats.at(-1)).toBe(7))
  await l.stop()
})

test('a status is told until it is acknowledged, and only the latest of a machine', async () => {
  const { link: l, reported, refusing } = link()
  refusing.reports = 2
  l.report(status(1))
  l.report(status(2))
  await vi.waitFor(() => expect(reported).toEqual([2]), { timeout: 3000 })
  await l.stop()
})

test('after a lost connection everything is told again', async () => {
  const { link: l, push, reported } = link([status(9)])
  push({ type: 'synced', revision: 1 })
  await vi.waitFor(() => expect(reported).toEqual([9]))
  push('break', { type: 'synced', revision: 2 })
  await vi.waitFor(() => expect(reported).toEqual([9, 9]), { timeout: 3000 })
  await l.stop()
})
