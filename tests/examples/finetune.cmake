# cmake -D SAMPLE=PROGRAM -D FINETUNE=PROGRAM -D CHECKPOINT=DIR -D WORK=DIR -P finetune.cmake: draws a picture, trains the
# model further on it and samples what was saved.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK}/images)
foreach(seed 1 2)
  execute_process(COMMAND ${SAMPLE} ${CHECKPOINT} --count 1 --steps 2 --seed ${seed} --out ${WORK}/images/${seed}.png
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()
execute_process(COMMAND ${FINETUNE} ${CHECKPOINT} --data ${WORK}/images --out ${WORK}/tuned --steps 3 --batch 4
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${SAMPLE} ${WORK}/tuned --count 1 --steps 2 --out ${WORK}/tuned.png COMMAND_ERROR_IS_FATAL ANY)
file(SHA256 ${CHECKPOINT}/unet/diffusion_pytorch_model.safetensors before)
file(SHA256 ${WORK}/tuned/unet/diffusion_pytorch_model.safetensors after)
if(before STREQUAL after)
  message(FATAL_ERROR "finetune saved the weights it had loaded")
endif()
