import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

/** unit: beside the code, no engine. integration: one real engine. e2e: the whole product on several hosts. soak: the same for long. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'packages/*/src/**/*.test.ts',
            'test/tidy.test.ts',
            'test/conformance/**/*.test.ts',
            'test/sim/**/*.test.ts',
            'test/cluster/**/*.test.ts',
          ],
          exclude: ['**/*.integration.test.ts', '**/*.soak.test.ts', '**/node_modules/**'],
          testTimeout: 30_000,
          // Files share what they import, which is most of the time otherwise: nothing here has state of its own.
          isolate: false,
          maxWorkers: '100%',
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
          // Programs that tests start from their sources are compiled once, not at each start.
          env: { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules/.cache/roost') },
          fileParallelism: false,
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
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
