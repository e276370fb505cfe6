import { expect, test } from 'vitest'
import { createBuildSlots } from './build-slots.ts'

const never = new AbortController().signal

test('two run, others wait in order and hear their place, too many are refused', async () => {
  const slots = createBuildSlots({ slots: 2, waiting: 2 })
  const heard: string[] = []
  const take = (name: string, signal = never) =>
    slots.take(signal, (ahead) => heard.push(`${name}:${ahead}`))
  const releaseA = await take('a')
  const releaseB = await take('b')
  const c = take('c')
  const d = take('d')
  await expect(take('e')).rejects.toMatchObject({ code: 'unavailable' })
  expect(heard).toEqual(['c:2', 'd:3'])
  releaseA()
  releaseA()
  const releaseC = await c
  expect(heard.at(-1)).toBe('d:2')
  releaseB()
  const releaseD = await d
  expect(slots.isIdle()).toBe(false)
  releaseC()
  releaseD()
  expect(slots.isIdle()).toBe(true)
})

test('who gives up waiting makes room', async () => {
  const slots = createBuildSlots({ slots: 1, waiting: 1 })
  const release = await slots.take(never, () => {})
  const abort = new AbortController()
  const waiting = slots.take(abort.signal, () => {})
  abort.abort(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
  release()
  expect(slots.isIdle()).toBe(true)
})
