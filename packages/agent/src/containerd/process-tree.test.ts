import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { killDescendants, processRef } from './process-tree.ts'

/** By the command that marks them; those that are dead and not yet waited for have none. */
function running(mark: string): number {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(mark)
    } catch {
      return false
    }
  }).length
}

test('what goes on starting others is ended with all of them, and the one at their head is not', async () => {
  const mark = `9${process.pid}`
  const many = `n=0; while [ $n -lt 1000 ]; do sleep ${mark} & n=$((n+1)); done; wait`
  const root = spawn('sh', ['-c', `sh -c '${many}' & wait; exec sleep 7777`], { stdio: 'ignore' })
  try {
    await expect.poll(() => running(`sleep\0${mark}`), { timeout: 20_000 }).toBeGreaterThan(20)
    const ref = processRef(root.pid ?? 0)
    if (ref === null) throw new Error('it has ended')
    killDescendants(ref)
    await expect.poll(() => running(mark), { timeout: 20_000 }).toBeLessThanOrEqual(1)
    expect(existsSync(`/proc/${root.pid}`)).toBe(true)
  } finally {
    root.kill('SIGKILL')
    await once(root, 'close')
  }
  await expect.poll(() => running(mark)).toBe(0)
})
