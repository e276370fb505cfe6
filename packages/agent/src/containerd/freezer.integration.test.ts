import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '@roost/base'
import { afterEach, describe, expect, test } from 'vitest'
import { openFreezer } from './freezer.ts'

const endings: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end()
})

/** Version 2 lies beside version 1 where both are mounted. */
const ROOTS = [
  { name: 'version 1', root: '/sys/fs/cgroup', groups: '/sys/fs/cgroup/freezer' },
  { name: 'version 2', root: '/sys/fs/cgroup/unified', groups: '/sys/fs/cgroup/unified' },
  { name: 'version 2 alone', root: '/sys/fs/cgroup', groups: '/sys/fs/cgroup' },
].filter(({ name, root, groups }) => {
  const unified = existsSync(join(root, 'cgroup.controllers'))
  return existsSync(groups) && unified === (name !== 'version 1')
})

describe.each(ROOTS)('freezer of $name', ({ root, groups }) => {
  function group(name: string): string {
    const path = `/roost-freezer-test-${process.pid}-${name}`
    mkdirSync(join(groups, path))
    endings.push(() => rmdirSync(join(groups, path)))
    return path
  }
  /** Something that wants to run all the time, in the group. */
  async function program(path: string): Promise<() => string> {
    const child = spawn('sh', ['-c', 'while :; do sleep 0.01; done'], { stdio: 'ignore' })
    writeFileSync(join(groups, path, 'cgroup.procs'), String(child.pid))
    endings.push(async () => {
      const list = join(groups, path, 'cgroup.procs')
      // What it forks while we look is found the next time.
      while (readFileSync(list, 'utf8') !== '') {
        for (const pid of readFileSync(list, 'utf8').split('\n').filter(Boolean))
          try {
            process.kill(Number(pid), 'SIGKILL')
          } catch {
            // It has ended.
          }
        await systemClock.sleep(5)
      }
    })
    return () => readFileSync(`/proc/${child.pid}/schedstat`, 'utf8').split(' ')[0] ?? ''
  }
  const goesOn = async (ranFor: () => string) => {
    const before = ranFor()
    const deadline = Date.now() + 10_000
    while (ranFor() === before && Date.now() < deadline) await systemClock.sleep(10)
    return ranFor() !== before
  }

  test('what is frozen does not run, however often it is said, and goes on when it is thawed', async () => {
    const freezer = openFreezer(systemClock, root)
    const path = group('a')
    const inside = `${path}/b`
    mkdirSync(join(groups, inside))
    endings.push(() => rmdirSync(join(groups, inside)))
    const ranFor = await program(inside)
    expect(freezer.isFrozen(path)).toBe(false)
    await freezer.freeze(path)
    await freezer.freeze(path)
    expect(freezer.isFrozen(path)).toBe(true)
    // It was not told itself.
    expect(freezer.isFrozen(inside)).toBe(false)
    // The last thing it did is counted a moment later.
    await systemClock.sleep(100)
    const stood = ranFor()
    await systemClock.sleep(200)
    expect(ranFor()).toBe(stood)
    freezer.thaw(path)
    freezer.thaw(path)
    expect(freezer.isFrozen(path)).toBe(false)
    expect(await goesOn(ranFor)).toBe(true)
  })

  test('a group that is not there is not frozen, can be thawed, and is refused', async () => {
    const freezer = openFreezer(systemClock, root)
    expect(freezer.isFrozen('/nothing-here')).toBe(false)
    freezer.thaw('/nothing-here')
    await expect(freezer.freeze('/nothing-here')).rejects.toMatchObject({ retry: 'later' })
  })
})
