# cmake -D PROGRAM=PROGRAM -D DATA=FOLDER -D WORK=DIR -P train_image_folder.cmake: three steps at once leave the same files as
# two steps and a third of a run that goes on.
cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE ${WORK})
file(COPY ${DATA}/ DESTINATION ${WORK}/images)
foreach(run "whole --steps 3" "parted --steps 2" "parted --steps 3 --resume")
  separate_arguments(run)
  list(POP_FRONT run folder)
  execute_process(COMMAND ${PROGRAM} ${WORK}/images --size 16 --channels 32,32 --batch 2 --samples 4 --out ${WORK}/${folder} ${run}
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()
foreach(file unet/diffusion_pytorch_model.safetensors training_state.safetensors)
  execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files
    ${WORK}/whole/checkpoints/step-00000003/${file} ${WORK}/parted/checkpoints/step-00000003/${file}
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()
