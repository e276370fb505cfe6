import type { MachineSpec } from '../runtime.ts'

/**
 * What is kept beside a container, on a disk and in clear, of what it was made from: without environments and contents of
 * files, which come anew with each start.
 */
export function recordable(spec: MachineSpec): MachineSpec {
  const { config } = spec
  const bare = <T extends { readonly raw_value?: string }>({ raw_value: _, ...file }: T) => file
  return {
    ...spec,
    config: {
      ...config,
      env: {},
      ...(config.files === undefined ? {} : { files: config.files.map(bare) }),
      ...(config.processes === undefined
        ? {}
        : { processes: config.processes.map((one) => ({ ...one, env: {} })) }),
      ...(config.containers === undefined
        ? {}
        : {
            containers: config.containers.map((one) => ({
              ...one,
              env: {},
              files: one.files.map(bare),
            })),
          }),
    },
  }
}
