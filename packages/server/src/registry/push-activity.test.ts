import { expect, test } from 'vitest'
import { createSteppedClock } from '../laps/simulated-hosts.ts'
import { createPushActivity, PUSH_MS } from './push-activity.ts'

test('a repository is busy while a build pushes to it, and after one whose end nobody saw', async () => {
  const clock = createSteppedClock(1_000)
  const activity = createPushActivity({ clock })
  const [first, second] = [activity.begin('shop'), activity.begin('shop')]
  expect(activity.isBusy('shop')).toBe(true)
  expect([...activity.busy(['shop', 'blog'])]).toEqual(['shop'])
  first.end(true)
  first.end(true)
  expect(activity.isBusy('shop')).toBe(true)
  second.end(true)
  expect(activity.isBusy('shop')).toBe(false)
  activity.begin('shop').end(false)
  expect(activity.isBusy('shop')).toBe(true)
  await clock.advance(PUSH_MS)
  expect(activity.isBusy('shop')).toBe(false)
})

test('what happened before the start is not known for a while', async () => {
  const clock = createSteppedClock(1_000)
  const activity = createPushActivity({ clock, unknownMs: 500 })
  expect(activity.isBusy('shop')).toBe(true)
  await clock.advance(500)
  expect(activity.isBusy('shop')).toBe(false)
})

test('idle is who nobody pushes to at all', async () => {
  const clock = createSteppedClock(1_000)
  const activity = createPushActivity({ clock, unknownMs: 500 })
  const idle = [activity.isIdle()]
  await clock.advance(500)
  idle.push(activity.isIdle())
  const build = activity.begin('shop')
  activity.touch('blog', 10)
  idle.push(activity.isIdle())
  build.end(true)
  idle.push(activity.isIdle())
  await clock.advance(10)
  expect([...idle, activity.isIdle()]).toEqual([false, true, false, false, true])
})

test('quiet is who had no news since, also none that is over', async () => {
  const clock = createSteppedClock(1_000)
  const activity = createPushActivity({ clock })
  activity.begin('early').end(true)
  const isQuiet = activity.quietFromNow()
  activity.begin('shop').end(true)
  activity.touch('blog', 10)
  await clock.advance(20)
  expect(['early', 'shop', 'blog', 'other'].map(isQuiet)).toEqual([true, false, false, true])
  expect(activity.isBusy('blog')).toBe(false)
})
