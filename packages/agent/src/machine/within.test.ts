import { systemClock } from '@roost/base'
import { expect, test } from 'vitest'
import { within } from './within.ts'

const clock = systemClock
const never = new AbortController().signal

test('what ends in time is the answer', async () => {
  expect(await within({ clock, ms: 1000, signal: never }, 'count', async () => 7)).toBe(7)
})

test('what hangs is given up, told so, and named', async () => {
  let told: AbortSignal | undefined
  const hanging = within({ clock, ms: 5, signal: never }, 'dig a hole', (signal) => {
    told = signal
    return new Promise(() => {})
  })
  await expect(hanging).rejects.toMatchObject({ message: 'dig a hole', retry: 'later' })
  expect(told?.aborted).toBe(true)
})

test('it does not outlast the program', async () => {
  const stopping = new AbortController()
  const hanging = within(
    { clock, ms: 60_000, signal: stopping.signal },
    'wait',
    () => new Promise(() => {}),
  )
  stopping.abort()
  await expect(hanging).rejects.toThrow('wait')
})
