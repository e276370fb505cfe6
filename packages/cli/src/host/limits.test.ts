import { expect, test } from 'vitest'
import { buildMemoryMb, limitsOf, nodeArguments } from './limits.ts'

const layout = { programsCgroup: '/roost/host/ams.programs' }
const memoryOf = (hostMb: number) =>
  (['server', 'agent', 'edge', 'haproxy', 'registry', 'containerd'] as const).map(
    (program) => limitsOf(layout, program, hostMb).memoryMb,
  )

test('a small host gives each program what it needs, a large one a share, a huge one no more than is of use', () => {
  expect(memoryOf(1024)).toEqual([384, 320, 256, 256, 256, 320])
  expect(memoryOf(8192)).toEqual([2048, 1638, 1638, 2048, 1638, 2048])
  expect(memoryOf(262_144)).toEqual([4096, 2048, 2048, 8192, 2048, 4096])
  expect([1024, 8192].map(buildMemoryMb)).toEqual([512, 4096])
})

test('the heap of Node ends before its program does', () => {
  const limits = limitsOf(layout, 'agent', 1024)
  expect(limits.cgroup).toBe('/roost/host/ams.programs/agent')
  expect(nodeArguments('agent', limits)).toContain('--max-old-space-size=192')
  expect(nodeArguments('server', limits)).not.toContain('--optimize-for-size')
})
