import { expect, test } from 'vitest'
import { machineSignal } from './signal.ts'

test.each([
  [9, 'SIGKILL'],
  ['9', 'SIGKILL'],
  ['SIGTERM', 'SIGTERM'],
  ['usr1', 'SIGUSR1'],
  [19, null],
  ['SIGSTOP', null],
  ['', null],
  [0, null],
])('%j is %s', (said, signal) => {
  expect(machineSignal(said)).toBe(signal)
})
