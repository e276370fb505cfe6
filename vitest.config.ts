import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** What takes the playground down of all end-to-end tests comes last. */
class DownLast extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isDown = ({ moduleId }: TestSpecification) => moduleId.endsWith('/down.e2e.test.ts')
    const sorted = await super.sort(files)
    return [...sorted.filter((file) => !isDown(file)), ...sorted.filter(isDown)]
  }
}

/** Programs that tests start from their sources are compiled once, not at each start. */
const env = { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules/.cache/roost') }

/** unit: beside the code, no engine. sim: the whole product in one process, by a clock of its own. integration: one real engine. e2e: the whole product on several hosts. soak: the same for long. */
export default defineConfig({
  test: {
    sequence: { sequencer: DownLast },
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'packages/*/src/**/*.test.ts',
            'test/tidy.test.ts',
            'test/conformance/**/*.test.ts',
            'test/cluster/**/*.test.ts',
          ],
          exclude: ['**/*.integration.test.ts', '**/*.soak.test.ts', '**/node_modules/**'],
          testTimeout: 30_000,
          // Files share what they import, which is most of the time otherwise: nothing here has state of its own.
          isolate: false,
          // More than cores: some files wait for programs most of the time.
          maxWorkers: 4,
          env,
        },
      },
      {
        test: {
          name: 'sim',
          include: ['test/sim/**/*.test.ts'],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: [
            'packages/*/src/**/*.integration.test.ts',
            'test/cluster/**/*.integration.test.ts',
            'test/build/**/*.integration.test.ts',
            'test/access/**/*.integration.test.ts',
          ],
          testTimeout: 120_000,
          hookTimeout: 300_000,
          env,
          // Each raises what it needs under names of its own. With more at once some are late for want of a core.
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'soak',
          include: ['packages/*/src/**/*.soak.test.ts', 'test/e2e/**/*.soak.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.e2e.test.ts'],
          globalSetup: ['test/e2e/playground.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
